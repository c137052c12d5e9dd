package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// Who follows a guide must not find out at the worst moment that a command of it is not
// there. Each `ingestd …` of the documents is parsed as the program would, and not run.
func TestGuidesNameCommandsThatExist(t *testing.T) {
	t.Parallel()
	named := map[string][]string{}
	for doc, atLeast := range map[string]int{
		"README.md": 30, "README.zh-CN.md": 30,
		"configs/README.md": 20, "configs/README.zh-CN.md": 20,
		"configs/prometheus/README.md": 10, "configs/systemd/README.md": 1,
		"ingest/README.md": 5, "ingest/custody/README.zh-CN.md": 30,
		"storage/README.md": 8, "storage/stationkey/README.md": 2,
	} {
		text, err := os.ReadFile(filepath.Join("../..", doc))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commandsIn(string(text)) {
			name, err := commandOf(line)
			if err != nil {
				t.Errorf("%s: ingestd %s: %v", doc, line, err)
			}
			named[doc] = append(named[doc], name)
		}
		if n := len(named[doc]); n < atLeast {
			t.Errorf("%s: %d commands were found in it, and it has %d at least", doc, n, atLeast)
		}
	}
	for _, doc := range []string{"README", "configs/README"} {
		if en, zh := named[doc+".md"], named[doc+".zh-CN.md"]; !slices.Equal(en, zh) {
			t.Errorf("the two languages of %s name different commands:\n%q\n%q", doc, en, zh)
		}
	}
}

func TestGuidesAreReadForWhatIsWrong(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"    sudo -u ingestd ingestd hold ad X":             "unknown command",
		"```sh\ningestd verify --al\n```":                   "unknown flag",
		"```\n$ ./ingestd retention preview --days x # a\n": "invalid argument",
		"cd session && /usr/bin/ingestd key show me":        "", // no code
		"`ingestd retention explain A B`":                   "accepts 1 arg",
		"    cd session && ingestd key show me | cat":       "unknown command",
		"```sh\ningestd hold list \\\n  --al\n```":          "unknown flag",
	} {
		found := commandsIn(line)
		if want == "" {
			if len(found) != 0 {
				t.Errorf("%q: found %q", line, found)
			}
			continue
		}
		if len(found) != 1 {
			t.Errorf("%q: found %q", line, found)
			continue
		}
		if _, err := commandOf(found[0]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
}

var (
	codeSpan = regexp.MustCompile("`([^`\n]+)`")
	// called is ingestd where a shell would run it, and what it is given.
	called = regexp.MustCompile(`^(?:\$ )?(?:sudo (?:-u \S+ )?)?(?:/usr/bin/|\./)?ingestd(?: (.*))?$`)
	// ends is where the shell's own words begin again.
	ends = regexp.MustCompile(`\s(?:#|\||&&|;|>).*$`)
)

// tableOfCommands begins the table of the README whose rows leave the program's name out.
const tableOfCommands = "`./ingestd --config ingestd.yaml`"

// commandsIn gives what follows `ingestd` in the code of a document: in fenced and
// indented blocks, in spans, and in the first column of the table of commands.
func commandsIn(text string) (found []string) {
	fenced, table := false, false
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		trimmed := strings.TrimSpace(line)
		row := strings.HasPrefix(line, "|")
		table = row && (table || strings.Contains(line, tableOfCommands))
		var code []string
		switch {
		case strings.HasPrefix(trimmed, "```"):
			fenced = !fenced
		case fenced, strings.HasPrefix(line, "    "):
			code = strings.Split(trimmed, " && ")
		case table && !strings.Contains(line, tableOfCommands):
			for _, m := range codeSpan.FindAllStringSubmatch(strings.SplitN(line, "|", 3)[1], -1) {
				found = append(found, m[1])
			}
		default:
			for _, m := range codeSpan.FindAllStringSubmatch(line, -1) {
				code = append(code, m[1])
			}
		}
		for _, c := range code {
			// A span with the name alone names the program, the user or the group.
			if m := called.FindStringSubmatch(ends.ReplaceAllString(c, "")); m != nil && m[1] != "" && m[1] != "…" {
				found = append(found, m[1])
			}
		}
	}
	return found
}

// commandOf parses a command line, and gives the command and the flags without values.
func commandOf(line string) (string, error) {
	a := &app{out: new(bytes.Buffer), err: new(bytes.Buffer)}
	root := a.root()
	words := strings.Fields(line)
	root.InitDefaultCompletionCmd(words...)
	cmd, rest, err := root.Find(words)
	if err != nil {
		return "", err
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return cmd.CommandPath(), err
	}
	name := cmd.CommandPath()
	cmd.Flags().Visit(func(f *pflag.Flag) { name += " --" + f.Name })
	args := cmd.Flags().Args()
	if help, err := cmd.Flags().GetBool("help"); len(args) == 0 || err == nil && help {
		return name, nil // prose names a command without what it is given
	}
	return name, cmd.ValidateArgs(args)
}
