package continuity_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/profile"
	"github.com/bodyworn/ingestd/ingest/continuity"
	"github.com/bodyworn/ingestd/ingest/journal"
)

var docked = time.Date(2026, 11, 24, 18, 0, 0, 0, time.UTC)

// station is a journal and the profiles that are built in.
type station struct {
	t *testing.T
	*continuity.Examiner
	dockings int
}

func newStation(t *testing.T) *station {
	t.Helper()
	j, err := journal.Open(filepath.Join(t.TempDir(), "journal.db"), journal.Own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	profiles, err := profile.Load(os.DirFS("../../configs/recorders"), "")
	if err != nil {
		t.Fatal(err)
	}
	return &station{t: t, Examiner: &continuity.Examiner{Journal: j, Profiles: func() (profile.Set, error) { return profiles, nil }, Zone: time.UTC}}
}

// clip is the path of the recording with a number, made so many minutes after the shift
// has begun.
func clip(number, minute int) string { return clipOf("NMQ0007", number, minute) }

func clipOf(serial string, number, minute int) string {
	at := docked.Add(-10 * time.Hour).Add(time.Duration(minute) * time.Minute)
	return fmt.Sprintf("DCIM/100MEDIA/%s_0001A_%s_%06d.MP4", at.Format("20060102150405"), serial, number)
}

// clips are recordings with these numbers, one each minute.
func clips(numbers ...int) (paths []string) {
	for i, n := range numbers {
		paths = append(paths, clip(n, i))
	}
	return paths
}

// dock puts a session into the journal, a day after the one before.
func (s *station) dock(change func(*journal.Session, []*journal.File), paths ...string) continuity.Report {
	s.t.Helper()
	s.dockings++
	at := docked.AddDate(0, 0, s.dockings)
	session := journal.Session{
		ID: fmt.Sprintf("S%d", s.dockings), State: journal.StateSealed, Recorder: "NMQ0007", DockedAt: at, EndedAt: at.Add(time.Minute),
		Identity: device.Identity{Profile: "zfy-paramini"},
	}
	var files []*journal.File
	for _, path := range paths {
		files = append(files, &journal.File{Session: session.ID, Entry: device.Entry{Path: path, Kind: device.KindFile, Size: 1 << 20}, State: journal.Verified})
	}
	if change != nil {
		change(&session, files)
	}
	if err := s.Journal.SaveSession(s.t.Context(), session); err != nil {
		s.t.Fatal(err)
	}
	if err := s.Journal.AddFiles(s.t.Context(), files); err != nil {
		s.t.Fatal(err)
	}
	report, err := s.Session(s.t.Context(), session, files)
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

func (s *station) want(r continuity.Report, signs ...continuity.Sign) {
	s.t.Helper()
	if r.Unexamined != "" || len(r.Signs) != len(signs) || len(signs) > 0 && !reflect.DeepEqual(r.Signs, signs) || *r.Open() != len(signs) {
		s.t.Errorf("docking %d: %+v\nwant %+v", s.dockings, r, signs)
	}
}

func gap(from, to int, after, before string) continuity.Sign {
	return continuity.Sign{Kind: continuity.Missing, From: from, To: to, After: after, Before: before}
}

func gapSince(session string, from, to int, after, before string) continuity.Sign {
	return continuity.Sign{Kind: continuity.MissingSince, From: from, To: to, After: after, Before: before, Since: session}
}

func TestWithinOneDocking(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		paths []string
		want  []continuity.Sign
	}{
		"whole":                                {clips(123, 124, 125), nil},
		"one":                                  {clips(123), nil},
		"none":                                 {nil, nil},
		"a hole":                               {clips(123, 124, 127), []continuity.Sign{gap(125, 126, clip(124, 1), clip(127, 2))}},
		"two holes":                            {clips(1, 3, 7), []continuity.Sign{gap(2, 2, clip(1, 0), clip(3, 1)), gap(4, 6, clip(3, 1), clip(7, 2))}},
		"a photo as well":                      {append(clips(1, 2), "DCIM/100MEDIA/20261124080100_0001A_NMQ0007_000002.JPG"), nil},
		"other files":                          {append(clips(1, 2), "Param.ini", "DCIM/100MEDIA/20261124080100_0001A_NMQ0007_000009.nmea"), nil},
		"counted to its end and on":            {clips(999998, 999999, 0, 1), nil},
		"counted to its end, one is missing":   {clips(999998, 999999, 1, 3), []continuity.Sign{gap(2, 2, clip(1, 2), clip(3, 3))}},
		"low numbers, made before":             {clips(1, 2, 9), []continuity.Sign{gap(3, 8, clip(2, 1), clip(9, 2))}},
		"a dead clock hides nothing":           {[]string{clip(5, 10), clip(7, -5000000)}, []continuity.Sign{gap(6, 6, clip(5, 10), clip(7, -5000000))}},
		"a dead clock invents nothing":         {[]string{clip(5, 10), clip(6, -5000000), clip(7, 20)}, nil},
		"a card that was in another recorder":  {append(clips(1, 2), clipOf("NMQ0009", 500, 3), clipOf("NMQ0009", 501, 4)), nil},
		"and footage of the other one is gone": {append(clips(1, 2), clipOf("NMQ0009", 500, 3), clipOf("NMQ0009", 502, 4)), []continuity.Sign{gap(501, 501, clipOf("NMQ0009", 500, 3), clipOf("NMQ0009", 502, 4))}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			s.want(s.dock(nil, c.paths...), c.want...)
		})
	}
}

func TestAnEmptyRecording(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.dock(func(_ *journal.Session, files []*journal.File) { files[1].Entry.Size = 0 }, clips(1, 2, 3)...)
	s.want(r, continuity.Sign{Kind: continuity.Empty, After: clip(2, 1)})
	// What could not be read is told as such; that it is empty is not known.
	s.want(s.dock(func(_ *journal.Session, files []*journal.File) {
		files[1].Entry.Size, files[1].State = 0, journal.Unreadable
	}, clips(1, 2, 3)...))
}

func TestSinceTheDockingBefore(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.want(s.dock(nil, clips(101, 102, 103)...))
	s.want(s.dock(nil, clips(101, 102, 103, 104)...)) // the recorder was not emptied
	s.want(s.dock(nil, clips(105, 106)...))           // it was
	s.want(s.dock(nil, clips(109, 110)...), gapSince("S3", 107, 108, clip(106, 1), clip(109, 0)))
	s.want(s.dock(nil, clips(109, 110, 111)...)) // told once
	s.want(s.dock(nil, "Param.ini"))             // nothing was recorded that day
	s.want(s.dock(nil, clips(113)...), gapSince("S5", 112, 112, clip(111, 2), clip(113, 0)))
	s.want(s.dock(nil, clips(1, 2)...)) // reset
	s.want(s.dock(nil, clips(3)...))
	// Another recorder, and one that nobody knows, are not compared with it.
	other := func(serial string) func(*journal.Session, []*journal.File) {
		return func(session *journal.Session, _ []*journal.File) { session.Recorder = serial }
	}
	s.want(s.dock(other("NMQ0008"), clips(9)...))
	s.want(s.dock(other(""), clips(20)...))
	s.want(s.dock(nil, clips(4)...))
	// Nor one that goes on.
	if r := s.dock(func(session *journal.Session, _ []*journal.File) { session.State = journal.StateOpen }, clips(5, 6, 9)...); r.Unexamined != continuity.NotEnded || r.Open() != nil {
		t.Errorf("%+v", r)
	}
	s.want(s.dock(nil, clips(7)...), gapSince("S12", 5, 6, clip(4, 0), clip(7, 0)))
}

// What was brought once may be removed from the recorder.
func TestWhatWasBroughtIsNotMissing(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.want(s.dock(nil, clips(1, 2, 3, 4)...))
	s.want(s.dock(nil, clips(1, 4)...))
	s.want(s.dock(nil, clips(1, 4, 5)...))
	s.want(s.dock(nil, clips(1, 7)...), gapSince("S3", 6, 6, clip(5, 2), clip(7, 1)))
	s.want(s.dock(nil, clips(1, 8)...)) // 7 was brought
	s.want(s.dock(nil, clips(20)...), gapSince("S5", 9, 19, clip(8, 1), clip(20, 0)))
	// 6 never came, nor 9 to 19.
	s.want(s.dock(nil, clips(4, 20)...), gap(6, 6, clip(4, 0), clip(20, 1)), gap(9, 19, clip(4, 0), clip(20, 1)))
}

// What an earlier docking could not store has not come.
func TestWhatWasNotStoredIsMissing(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	failed := func(session *journal.Session, files []*journal.File) {
		session.State, files[2].State = journal.StateFailed, journal.Unreadable
	}
	s.want(s.dock(failed, clips(1, 2, 3, 4)...)) // it is on the recorder, and told as unreadable
	s.want(s.dock(nil, clips(1, 2, 4)...), gap(3, 3, clip(2, 1), clip(4, 2)))
}

// Nobody asks further back than fifty dockings.
func TestHowFarIsLookedBack(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.want(s.dock(nil, clips(1, 2, 3)...))
	for range 50 {
		s.want(s.dock(nil, clips(1, 3)...))
	}
	s.want(s.dock(nil, clips(1, 3)...), gap(2, 2, clip(1, 0), clip(3, 1)))
}

func TestWhatIsNotExamined(t *testing.T) {
	t.Parallel()
	of := func(name string) func(*journal.Session, []*journal.File) {
		return func(s *journal.Session, _ []*journal.File) { s.Identity.Profile = name }
	}
	for name, c := range map[string]struct {
		change func(*journal.Session, []*journal.File)
		paths  []string
		want   continuity.Unexamined
	}{
		"a folder":            {of(""), clips(1, 3), continuity.NoProfile},
		"a profile that went": {of("acme"), clips(1, 3), continuity.NoProfile},
		"no numbers":          {of("generic-disk"), clips(1, 3), continuity.NoNumbers},
		"other names":         {nil, []string{"DCIM/1.MP4", "DCIM/3.MP4"}, continuity.NoNumbers},
		"it is being sealed":  {func(s *journal.Session, _ []*journal.File) { s.State = journal.StateSealing }, clips(1, 3), continuity.NotEnded},
	} {
		s := newStation(t)
		if r := s.dock(c.change, c.paths...); r.Unexamined != c.want || r.Open() != nil || len(r.Signs) != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	s := newStation(t)
	s.Profiles = func() (profile.Set, error) { return nil, errors.New("acme.yaml: line 3") }
	if r := s.dock(nil, clips(1, 3)...); r.Unexamined != continuity.NoProfiles || r.Why != "acme.yaml: line 3" {
		t.Errorf("%+v", r)
	}
	s = newStation(t)
	r := s.dock(nil, append(clips(1, 3), "DCIM/other.MP4")...)
	if s.want(r, gap(2, 2, clip(1, 0), clip(3, 1))); r.Recordings != 2 || r.Unnumbered != 1 {
		t.Errorf("%+v", r)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	base := func(path string) string { return path }
	for want, s := range map[string]continuity.Sign{
		"missing 缺号 125–126 between a and b":                 gap(125, 126, "a", "b"),
		"missing 缺号 7 since session S3: between its a and b": gapSince("S3", 7, 7, "a", "b"),
		"a is empty 空文件":                                     {Kind: continuity.Empty, After: "a"},
	} {
		if got := s.Words(base); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for want, r := range map[string]continuity.Report{
		"no sign 无记录中断迹象 in 4 numbered recordings":                         {Recordings: 4},
		"signs 记录中断迹象: 1, in 4 numbered recordings, 2 others not examined": {Recordings: 4, Unnumbered: 2, Signs: make([]continuity.Sign, 1)},
		"not examined 未检查记录中断: acme.yaml: line 3":                          {Unexamined: continuity.NoProfiles, Why: "acme.yaml: line 3"},
	} {
		if got := r.Words(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
