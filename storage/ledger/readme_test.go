package ledger_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/bodyworn/ingestd/storage/ledger"
)

// What README.md tells a person to type gives what the ledger says.
func TestReadmeIsTrue(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"bash", "jq", "openssl", "sha256sum", "xxd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	blocks := regexp.MustCompile("(?s)```(bash|sh)\n(.*?)```").FindAllStringSubmatch(string(readFile(t, "README.md")), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks", len(blocks))
	}
	functions, examples := blocks[0][2], blocks[1][2]
	for _, f := range strings.Split(functions, "\n\n") {
		if lines := strings.Count(f, "\n"); lines > 25 {
			t.Errorf("a function of %d lines", lines)
		}
	}
	key, err := ledger.VerifierKey(origin, station.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	run := func(dir, script string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", functions+script)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "KEY="+key)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}

	dir := t.TempDir()
	l := open(t, dir)
	var odd = []string{`back\slash and "quote"`, "tab\tline\nend", "%s %d \\x41", "  spaces  ", "案件"}
	media := []byte("footage")
	sum := sha256.Sum256(media)
	for n := range 7 {
		root := parse(t, l).Root.String()
		out, err := run(dir, "ledger_root entries.jsonl "+strconv.Itoa(n))
		if err != nil || out != root+"\n" {
			t.Errorf("size %d: %v: %s, want %s", n, err, out, root)
		}
		e := entry(n)
		e.Reason = odd[n%len(odd)]
		e.Objects = []ledger.Object{{Key: "a.mp4", SHA256: hex.EncodeToString(sum[:])}}
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	checkInclusion(t, l, run, dir)
	writeFile(t, media, dir, "a.mp4")
	out, err := run(dir, examples)
	if err != nil || !strings.Contains(out, "Signature Verified Successfully") || !strings.Contains(out, "the lines are whole") || strings.Count(out, "session.sealed") != 7 {
		t.Errorf("%v\n%s", err, out)
	}
	// The same commands see what is wrong.
	for name, c := range map[string]struct{ file, old, new string }{
		"checkpoint": {"checkpoint", "\n7\n", "\n6\n"},
		"line":       {"entries.jsonl", "110123", "110124"},
		"footage":    {"a.mp4", "foot", "hand"},
	} {
		changed := copyDir(t, dir)
		data := string(readFile(t, changed, c.file))
		writeFile(t, []byte(strings.Replace(data, c.old, c.new, 1)), changed, c.file)
		if out, err := run(changed, examples); err == nil {
			t.Errorf("%s: nothing was seen\n%s", name, out)
		}
	}
	if out, err := run(dir, "ledger_root entries.jsonl 8"); err == nil {
		t.Errorf("a root of more lines than there are: %s", out)
	}
	other := forged(t, keyOf("other"), entry(0))
	if out, err := run(other, "ledger_signature "+filepath.Join(other, "checkpoint")+` "$KEY"`); err == nil {
		t.Errorf("signed by another key: %s", out)
	}
}

// checkInclusion has every line of logs of some sizes proven by the README's function.
func checkInclusion(t *testing.T, l *ledger.Ledger, run func(dir, script string) (string, error), dir string) {
	t.Helper()
	lines := readAll(t, l, 0)
	for _, size := range []int64{1, 2, 5, 7} {
		root, err := run(dir, "ledger_root entries.jsonl "+strconv.FormatInt(size, 10))
		if err != nil {
			t.Fatal(err)
		}
		for index := range size {
			proof, err := l.Prove(t.Context(), index, size)
			if err != nil {
				t.Fatal(err)
			}
			document := func(line []byte, index int64) string {
				body, err := json.Marshal(map[string]any{"index": index, "size": size, "line": string(line), "proof": append(tlog.RecordProof{}, proof...)})
				if err != nil {
					t.Fatal(err)
				}
				name := filepath.Join(t.TempDir(), "proof.json")
				writeFile(t, body, name)
				return "ledger_inclusion " + name
			}
			if out, err := run(dir, document(lines[index].Line, index)); err != nil || out != root {
				t.Errorf("line %d of %d: %v: %s, want %s", index, size, err, out, root)
			}
			// Another line and another place lead elsewhere, or nowhere.
			for _, wrong := range []string{document(lines[(index+1)%int64(len(lines))].Line, index), document(lines[index].Line, index+1)} {
				if out, err := run(dir, wrong); err == nil && out == root {
					t.Errorf("line %d of %d: what is not proven is taken", index, size)
				}
			}
		}
	}
}
