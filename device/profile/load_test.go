package profile_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/bodyworn/ingestd/device/profile"
)

const builtInFolder = "../../configs/recorders"

func builtIn(t testing.TB) profile.Set {
	t.Helper()
	set, err := profile.Load(os.DirFS(builtInFolder), "")
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func folder(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

// head is what every profile must have; what is under match comes after it.
func head(name string) string {
	return "name: " + name + "\ntitle: {en: A, zh: 甲}\ntested_with: none\naccess: disk\n"
}

// one loads a single profile of the name x.
func one(text string) (*profile.Profile, error) {
	set, err := profile.Load(folder(map[string]string{"x.yaml": text}), "")
	if err != nil {
		return nil, err
	}
	return set[0], nil
}

func must(t testing.TB, text string) *profile.Profile {
	t.Helper()
	p, err := one(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheBuiltInProfilesAreValidAndHonest(t *testing.T) {
	set := builtIn(t)
	var names []string
	for _, p := range set {
		names = append(names, p.Name)
		if p.TestedWith != "none" {
			t.Errorf("%s claims to be tested with %q", p.Name, p.TestedWith)
		}
		if p.Clear != "never" {
			t.Errorf("%s clears recorders: %q", p.Name, p.Clear)
		}
	}
	want := []string{"ambarella-text", "generic-disk", "generic-ptp", "infodat", "timeset-file", "zfy-paramini"}
	if !slices.Equal(names, want) {
		t.Errorf("profiles %q, want %q", names, want)
	}
}

// Every key of a profile is in the README, every key there exists.
func TestTheREADMEHasEveryKey(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(builtInFolder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.*]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = true
	}
	keys := map[string]bool{}
	ofCommand := regexp.MustCompile(`^commands\.\w+\.`) // the same for each command
	for _, key := range profile.Keys() {
		keys[ofCommand.ReplaceAllString(key, "commands.*.")] = true
	}
	for key := range keys {
		if !documented[key] {
			t.Errorf("the README lacks %s", key)
		}
	}
	for key := range documented {
		if !keys[key] {
			t.Errorf("the README has %s, which is no key", key)
		}
	}
	if len(keys) < 40 {
		t.Errorf("only %d keys", len(keys))
	}
}

// The profile that the README shows is one.
func TestTheExampleOfTheREADMEWorks(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(builtInFolder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("there is no example")
	}
	set, err := profile.Load(folder(map[string]string{"acme-x1.yaml": m[1]}), "")
	if err != nil {
		t.Fatal(err)
	}
	n, ok := set[0].ReadName("ACME/VIDEO/20261124/052507_081402.mp4", china)
	if !ok || n.Officer.Value != "052507" || n.At.Format("2006-01-02T15:04:05-07:00") != "2026-11-24T08:14:02+08:00" {
		t.Errorf("%+v, %v", n, ok)
	}
}

func TestTheStationsProfilesReplaceBuiltInOnes(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"zfy-paramini.yaml": strings.Replace(head("zfy-paramini"), "none", "ZFY-9", 1) + "match: {markers: [Param.ini]}\n",
		"own.yml":           head("own") + "match: {usb: [\"1234:0001\"]}\n",
		"notes.txt":         "not a profile",
		".own.yaml.swp":     "not a profile",
		".hidden.yaml":      "not a profile",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := profile.Load(os.DirFS(builtInFolder), dir)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := set.Named("zfy-paramini")
	if !ok || p.TestedWith != "ZFY-9" || !strings.HasPrefix(p.File, dir) || len(p.Footage.Files) != 0 {
		t.Errorf("%+v", p)
	}
	if _, ok := set.Named("own"); !ok || len(set) != 7 {
		t.Errorf("%d profiles", len(set))
	}
	if _, err := profile.Load(os.DirFS(builtInFolder), filepath.Join(dir, "absent")); err == nil {
		t.Error("a folder that is not there was taken for an empty one")
	}
}

func TestAllProblemsAreToldAtOnceWithTheirLines(t *testing.T) {
	_, err := profile.Load(folder(map[string]string{
		"a.yaml": head("a") + "match: {markers: [x]}\nclokc: {}\nclock:\n  read: ptp\n  zone: Mars/Base\n",
		"b.yaml": "name: b\n",
	}), "")
	var all *profile.Error
	if !errors.As(err, &all) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"a.yaml:6: clokc: no such key; did you mean clock?",
		"a.yaml:8: clock.read: ptp needs access ptp",
		"a.yaml:9: clock.zone: no such time zone",
		"b.yaml:1: title: is missing",
		"b.yaml:1: match: is missing",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	m := "match: {markers: [x]}\n"
	ptp := strings.Replace(head("x"), "access: disk", "access: ptp", 1) + "match: {usb: [\"1234\"]}\n"
	for name, c := range map[string]struct{ text, want string }{
		"empty file":             {"", "is empty"},
		"not YAML":               {"name: [", "not YAML"},
		"no mapping":             {"- a\n", "must be a group of keys"},
		"two documents":          {head("x") + m + "---\nname: y\n", "second YAML document"},
		"key twice":              {head("x") + m + "access: ptp\n", "set twice, first at line 4"},
		"unknown key":            {head("x") + m + "colour: red\n", "no such key"},
		"unknown key below":      {head("x") + "match: {markers: [x], marker: [y]}\n", "did you mean match.markers?"},
		"alias":                  {head("x") + "match: {markers: &m [x], over: *m}\n", "not supported"},
		"tag":                    {head("x") + m + "battery: !!str none\n", "not supported"},
		"null":                   {head("x") + m + "battery:\n", "has no value"},
		"group as value":         {head("x") + m + "clock: none\n", "must be a group"},
		"list as value":          {head("x") + m + "battery: [none]\n", "must be a single value"},
		"value as list":          {head("x") + "match: {markers: x}\n", "must be a list"},
		"long value":             {head("x") + m + "battery: " + strings.Repeat("x", 600) + "\n", "is longer"},
		"long file":              {head("x") + m + "# " + strings.Repeat("x", 70_000) + "\n", "is larger"},
		"many entries":           {head("x") + "match: {markers: [" + strings.Repeat("a,", 65) + "]}\n", "at most 64"},
		"another name":           {head("y") + m, "must be that of the file"},
		"odd name":               {head("X_1") + m, "lower-case"},
		"no title in Chinese":    {strings.Replace(head("x"), ", zh: 甲", "", 1) + m, "title.zh: is missing"},
		"tested with nothing":    {strings.Replace(head("x"), "none", `""`, 1) + m, "tested_with"},
		"access by magic":        {strings.Replace(head("x"), "disk", "magic", 1) + m, "must be disk, ptp"},
		"clear always":           {head("x") + m + "clear: always\n", "must be never"},
		"bad boolean":            {head("x") + "match: {any: yes}\n", "true or false"},
		"bad USB id":             {head("x") + "match: {usb: [\"42:1\"]}\n", "hexadecimal"},
		"USB id twice":           {head("x") + "match: {usb: [\"1234:00ab\", \"1234:00AB\"]}\n", "twice"},
		"fits nothing":           {head("x") + "match: {}\n", "fits nothing"},
		"any and more":           {head("x") + "match: {any: true, markers: [x]}\n", "stands alone"},
		"label fits all":         {head("x") + "match: {labels: ['.*']}\n", "empty text"},
		"empty pattern":          {head("x") + "match: {labels: ['']}\n", "is empty"},
		"bad pattern":            {head("x") + "match: {labels: ['(']}\n", "no regular expression"},
		"pattern out of bounds":  {head("x") + "match: {labels: ['a){2}(?:b']}\n", "no regular expression"},
		"marker outside":         {head("x") + "match: {markers: [../x]}\n", "no path on a volume"},
		"marker with backslash":  {head("x") + "match: {markers: ['DCIM\\x']}\n", "no path on a volume"},
		"over itself":            {head("x") + "match: {markers: [x], over: [x]}\n", "itself"},
		"over nobody":            {head("x") + "match: {markers: [x], over: [zz]}\n", "no profile"},
		"PTP with markers":       {strings.Replace(head("x"), "disk", "ptp", 1) + m, "for access disk"},
		"unknown source":         {head("x") + m + "identity: {serial: [magic]}\n", "must be param_ini"},
		"officer from USB":       {head("x") + m + "identity: {officer: [usb]}\n", "must be param_ini"},
		"source twice":           {head("x") + m + "identity: {serial: [usb, usb]}\n", "usb twice"},
		"PTP source, disk":       {head("x") + m + "identity: {serial: [ptp]}\n", "needs access ptp"},
		"disk source, PTP":       {ptp + "identity: {serial: [param_ini]}\n", "needs access disk"},
		"label without pattern":  {head("x") + m + "identity: {serial: [label]}\n", "needs label_pattern"},
		"pattern without label":  {head("x") + m + "identity: {label_pattern: '(?P<serial>x)'}\n", "read by nobody"},
		"pattern without group":  {head("x") + m + "identity: {serial: [label], label_pattern: 'x'}\n", "needs a named group"},
		"group of another name":  {head("x") + m + "identity: {serial: [label], label_pattern: '(?P<name>x)'}\n", "nothing reads the group"},
		"command without one":    {head("x") + m + "identity: {serial: [command]}\n", "needs commands.identity"},
		"name without group":     {head("x") + m + "footage: {name: 'x'}\n", "needs a named group"},
		"time without layout":    {head("x") + m + "footage: {name: '(?P<time>x)'}\n", "does not tell year"},
		"layout of another tool": {head("x") + m + "footage: {name: '(?P<time>x)', time_layout: yyyyMMddHHmmss}\n", "does not tell year"},
		"layout without year":    {head("x") + m + "footage: {name: '(?P<time>x)', time_layout: '0102150405'}\n", "does not tell year"},
		"layout without time":    {head("x") + m + "footage: {name: '(?P<serial>x)', time_layout: '20060102150405'}\n", "not there"},
		"date without time":      {head("x") + m + "footage: {name: '(?P<date>x)'}\n", "needs the group time"},
		"clock read by PTP":      {head("x") + m + "clock: {read: ptp}\n", "needs access ptp"},
		"clock read by file":     {head("x") + m + "clock: {read: file}\n", "must be none, ptp, command"},
		"clock read by nothing":  {head("x") + m + "clock: {read: command}\n", "needs commands.read_clock"},
		"clock set by nothing":   {head("x") + m + "clock: {set: command}\n", "needs commands.set_time"},
		"battery by nothing":     {head("x") + m + "battery: command\n", "needs commands.battery"},
		"set by no file":         {head("x") + m + "clock: {set: file}\n", "needs clock.file"},
		"file for nothing":       {head("x") + m + "clock: {file: {path: T.TXT, format: '2006-01-02 15:04:05'}}\n", "set: file only"},
		"file without format":    {head("x") + m + "clock: {set: file, file: {path: T.TXT}}\n", "format: is missing"},
		"file in a folder":       {head("x") + m + "clock: {set: file, file: {path: A/T.TXT, format: '2006-01-02 15:04:05'}}\n", "root"},
		"file over footage":      {head("x") + m + "footage: {files: ['\\.mp4$']}\nclock: {set: file, file: {path: T.MP4, format: '2006-01-02 15:04:05'}}\n", "nothing is written there"},
		"file over PTP":          {ptp + "clock: {set: file, file: {path: T.TXT, format: '2006-01-02 15:04:05'}}\n", "needs access disk"},
		"zone of the machine":    {head("x") + m + "clock: {zone: Local}\n", "write station"},
		"no command":             {head("x") + m + "commands: {end: '#'}\n", "no command at all"},
		"bad command":            {head("x") + m + "commands: {login: {send: '{pass}', expect: OK}}\n", "commands.login.send: {pass} is not known"},
		"disk mode for PTP":      {ptp + "commands: {disk_mode: {send: x}}\n", "needs access disk"},
		"bad time":               {head("x") + m + "commands: {login: {send: x, expect: OK, timeout: soon}}\n", "such as 3s"},
		"class of a disk":        {head("x") + m + "commands: {interface: class 08, login: {send: x, expect: OK}}\n", "class 08"},
	} {
		_, err := one(c.text)
		var all *profile.Error
		if !errors.As(err, &all) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func TestProfilesThatCantBeToldApart(t *testing.T) {
	for name, c := range map[string]struct {
		a, b string
		want string // empty: they can
	}{
		"one USB id":            {`{usb: ["1234:0001"]}`, `{usb: ["1234:0001"]}`, "fits USB id 1234:0001 just as"},
		"one of several":        {`{usb: ["1234:0001", "1234:0002"]}`, `{usb: ["1234:0002"]}`, "fits USB id 1234:0002 just as"},
		"vendor and product":    {`{usb: ["1234"]}`, `{usb: ["1234:0001"]}`, ""},
		"told apart by product": {`{usb: ["1234:0001"], product: A}`, `{usb: ["1234:0001"], product: B}`, ""},
		"one product":           {`{usb: ["1234:0001"], product: A}`, `{usb: ["1234:0001"], product: A}`, "fits USB id"},
		"one is over the other": {`{usb: ["1234:0001"], over: [b]}`, `{usb: ["1234:0001"]}`, ""},
		"each over the other":   {`{usb: ["1234:0001"], over: [b]}`, `{usb: ["1234:0002"], over: [a]}`, "the other way round"},
		"any twice":             {`{any: true}`, `{any: true}`, "any with access disk"},
	} {
		_, err := profile.Load(folder(map[string]string{"a.yaml": head("a") + "match: " + c.a, "b.yaml": head("b") + "match: " + c.b}), "")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	_, err := profile.Load(folder(map[string]string{"a.yaml": head("a") + "match: {any: true}", "a.yml": head("a") + "match: {any: true}"}), "")
	if err == nil || !strings.Contains(err.Error(), "of the name a already") {
		t.Errorf("one name twice: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(builtInFolder, "*.yaml"))
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(head("x") + "match: {labels: ['(a', '.*'], usb: [4255:0001]}\nclock: {zone: ../../etc/passwd}\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := one(text)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if p != nil && (p.Name != "x" || p.Clear != "never" || p.Access != profile.Disk && p.Access != profile.PTP) {
			t.Errorf("%+v", p)
		}
	})
}
