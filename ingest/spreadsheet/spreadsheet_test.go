package spreadsheet_test

import (
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/ingest/spreadsheet"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	err := spreadsheet.Write(&b, [][]string{
		{"警号", "说明"},
		{"052507", `a "quoted", word`},
		{"=HYPERLINK(1)", "-"},
		{"+1", "-1"},
		{"@SUM", "\tx"},
		{"", "a=b"},
	})
	const want = "\ufeff警号,说明\n" +
		"052507,\"a \"\"quoted\"\", word\"\n" +
		"'=HYPERLINK(1),-\n" +
		"'+1,'-1\n" +
		"'@SUM,'\tx\n" +
		",a=b\n"
	if err != nil || b.String() != want {
		t.Errorf("%v\n%q, want\n%q", err, b.String(), want)
	}
}
