package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/ingest/spreadsheet"
)

// Forms of a result. Every command knows the first two, lists the others too.
const (
	asTable = "table"
	asJSON  = "json"
	asJSONL = "jsonl" // one item a line
	asCSV   = "csv"   // the table, for a spreadsheet
)

const listing = "list"

// isList marks a command whose result is a list.
var isList = map[string]string{listing: "true"}

// checkForm refuses a form that the command's result can't have.
func (a *app) checkForm(cmd *cobra.Command) error {
	known := []string{asTable, asJSON}
	if cmd.Annotations[listing] != "" {
		known = append(known, asJSONL, asCSV)
	}
	if cmd.Annotations[streaming] != "" {
		known = append(known, asJSONL)
	}
	if !slices.Contains(known, a.output) {
		return usage(fmt.Errorf("-o %s: the result of %s is %s", a.output, cmd.CommandPath(), strings.Join(known, " or ")))
	}
	if a.lang == "" {
		a.lang = languageOf(os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG"))
	}
	if a.lang != langChinese && a.lang != langEnglish {
		return usage(fmt.Errorf("--lang %s: it is %s or %s", a.lang, langChinese, langEnglish))
	}
	return nil
}

// printList writes a list in the form that was asked for. next is where it goes on, for
// those that come in pages; empty: it is complete.
func printList[T any](a *app, schema string, items []T, next string, header []string, rows [][]any, rightAligned ...int) error {
	if items == nil {
		items = []T{} // [] and not null
	}
	switch a.output {
	case asJSON:
		result := map[string]any{"schema": schema, "items": items}
		if next != "" {
			result["next"] = next
		}
		return printJSON(a.out, result)
	case asJSONL:
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		for _, item := range items {
			if err := enc.Encode(item); err != nil {
				return err
			}
		}
		return nil
	case asCSV:
		return a.printCSV(header, rows)
	}
	a.printTable(header, rows, rightAligned...)
	return nil
}

func (a *app) printCSV(header []string, rows [][]any) error {
	all := [][]string{}
	if !a.noHeaders {
		all = append(all, a.headings(header))
	}
	for _, row := range rows {
		var cells []string
		for _, value := range row {
			cells = append(cells, fmt.Sprint(value))
		}
		all = append(all, cells)
	}
	return spreadsheet.Write(a.out, all)
}

// printTable writes rows for people; columns stay aligned with Chinese in them.
func (a *app) printTable(header []string, rows [][]any, rightAligned ...int) {
	t := table.NewWriter()
	t.SetOutputMirror(a.out)
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	var columns []table.ColumnConfig
	for _, n := range rightAligned {
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	if !a.noHeaders {
		row := table.Row{}
		for _, h := range a.headings(header) {
			row = append(row, h)
		}
		t.AppendHeader(row)
	}
	for _, r := range rows {
		t.AppendRow(r)
	}
	t.Render()
}
