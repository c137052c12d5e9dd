// Package spreadsheet writes tables in the form that spreadsheets read: CSV (RFC 4180) in
// UTF-8. It stands at the end of the flow, behind the console and the command line.
package spreadsheet

import (
	"encoding/csv"
	"io"
	"strings"
)

// Write begins with a mark of UTF-8, or spreadsheets take it for another encoding. What
// could be taken for a formula, for text comes from cards, gets an apostrophe; a dash
// alone is nothing.
func Write(w io.Writer, rows [][]string) error {
	if _, err := io.WriteString(w, "\ufeff"); err != nil {
		return err
	}
	out := csv.NewWriter(w)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, text := range row {
			if text != "" && text != "-" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
				text = "'" + text
			}
			cells[i] = text
		}
		if err := out.Write(cells); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
