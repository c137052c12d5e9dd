package vendorcmd_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodyworn/ingestd/device"
	"github.com/bodyworn/ingestd/device/vendorcmd"
)

var china = time.FixedZone("CST", 8*60*60)

func TestTheClockIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 37 * time.Second
		r := &recorder{delay: 200 * time.Millisecond}
		r.answer = func(command string) []string {
			if strings.HasPrefix(command, "@Gtm") {
				return []string{"@Gtm;" + time.Now().Add(-slow).In(china).Format("20060102150405") + ";#"}
			}
			return good(command)
		}
		s := loggedIn(t, r)
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(1700 * time.Millisecond)))
		reading, err := s.Clock(t.Context(), china)
		if err != nil || reading.Kind != device.ClockMeasured {
			t.Fatalf("%+v, %v", reading, err)
		}
		if wrong := *reading.Offset + slow; wrong.Abs() > *reading.Uncertainty {
			t.Errorf("offset %s ± %s, true is %s", *reading.Offset, *reading.Uncertainty, -slow)
		}
		if want := 600 * time.Millisecond; *reading.Uncertainty != want { // half a second cut off, half of the way there and back
			t.Errorf("uncertainty %s, want %s", *reading.Uncertainty, want)
		}
	})
}

func TestAnAnswerThatIsNoTimeIsAnUnknownClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, answer := range []string{"@Gtm;20261324081402;#", "@Gtm;soon;#", "@Gtm;0;#"} {
			s := loggedIn(t, &recorder{answer: replaced("@Gtm", answer)})
			reading, err := s.Clock(t.Context(), china)
			if err != nil || reading.Kind != device.ClockUnknown || reading.Offset != nil || reading.Method == "" {
				t.Errorf("%q: %+v, %v", answer, reading, err)
			}
		}
	})
}

// setter is a recorder with a clock of its own, which goes on and can be set.
type setter struct {
	recorder
	offset   time.Duration // of its clock
	slowDate time.Duration // before it answers a date
}

func (r *setter) now() time.Time { return time.Now().Add(r.offset).In(china) }

func (r *setter) set(layout, text string) {
	to, err := time.ParseInLocation(layout, text, china)
	if err == nil {
		r.offset = time.Until(to)
	}
}

func (r *setter) run(command string) []string {
	if v, ok := strings.CutPrefix(command, "@Sdt;8;"); ok {
		r.set("20060102 15:04:05.999999999", strings.TrimSuffix(v, ";#")+r.now().Format(" 15:04:05.999999999"))
		time.Sleep(r.slowDate)
	}
	if v, ok := strings.CutPrefix(command, "@Stm;6;"); ok {
		r.set("20060102 15040500", r.now().Format("20060102 ")+strings.TrimSuffix(v, ";#"))
	}
	if strings.HasPrefix(command, "@Gtm") {
		return []string{"@Gtm;" + r.now().Format("20060102150405") + ";#"}
	}
	return good(command)
}

func TestTheClockIsSetWhenASecondBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(12*time.Hour + 345*time.Millisecond)
		r := &setter{offset: -37 * time.Hour}
		r.answer = r.run
		s := loggedIn(t, &r.recorder)
		setting, err := s.SetClock(t.Context(), china)
		if err != nil {
			t.Fatal(err)
		}
		if r.offset.Abs() > 100*time.Millisecond {
			t.Errorf("the recorder's clock is off by %s", r.offset)
		}
		i := slices.IndexFunc(r.got, func(c string) bool { return strings.HasPrefix(c, "@Stm") })
		if late := r.gotAt[i].Sub(setting.SetAt); late < 0 || late > 100*time.Millisecond || setting.SetAt.Nanosecond() != 0 {
			t.Errorf("set to %s, %s after that second began", setting.SetAt, late)
		}
		if setting.After.Kind != device.ClockMeasured || setting.Method == "" || *setting.After.Offset > *setting.After.Uncertainty {
			t.Errorf("afterwards %+v", setting)
		}
	})
}

func TestDateAndTimeAreOfOneDay(t *testing.T) {
	for _, before := range []time.Duration{time.Hour, 11 * time.Second, 5 * time.Second, time.Second, time.Millisecond} {
		for _, slow := range []time.Duration{0, 2 * time.Second, 12 * time.Second} {
			for _, own := range []time.Duration{0, -500 * time.Millisecond, 36 * time.Hour, -time.Minute} { // after the station's midnight, the recorder's
				synctest.Test(t, func(t *testing.T) {
					now := time.Now().In(china)
					midnight := time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, china)
					r := &setter{slowDate: slow, offset: own}
					r.answer = r.run
					c := commands()
					c.SetDate.Timeout = time.Minute
					s, err := vendorcmd.New(&r.recorder, c, password)
					if err != nil {
						t.Fatal(err)
					}
					if err := s.Login(t.Context()); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Until(midnight) - before)
					if _, err := s.SetClock(t.Context(), china); err != nil {
						t.Fatal(err)
					}
					if n := r.times("@Sdt"); slow == 0 && n != 2 {
						t.Errorf("%s before midnight the date was sent %d times, want 2: before and after the time", before, n)
					}
					if r.offset.Abs() > time.Second {
						t.Errorf("%s before midnight, date answered after %s: the recorder, %s off before, is %s off", before, slow, own, r.offset)
					}
				})
			}
		}
	}
}

// The recorder's clock passes its own midnight between the date and the time.
func TestTheDateIsRightThoughTheRecordersClockPassesMidnight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(12 * time.Hour)
		now := time.Now().In(china)
		r := &setter{offset: time.Until(time.Date(now.Year(), now.Month(), now.Day(), 23, 59, 59, 5e8, china)), slowDate: 2 * time.Second}
		r.answer = r.run
		s := loggedIn(t, &r.recorder)
		if _, err := s.SetClock(t.Context(), china); err != nil || r.offset.Abs() > time.Second {
			t.Errorf("the recorder is %s off, %v", r.offset, err)
		}
	})
}

func TestAClockThatWasNotSetSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := loggedIn(t, &recorder{answer: replaced("@Stm", "@Stm;ERR;#")})
		_, err := s.SetClock(t.Context(), china)
		if !errors.Is(err, vendorcmd.ErrOddAnswer) || !strings.Contains(err.Error(), "date is set already") {
			t.Errorf("time refused: %v", err)
		}
		r := &recorder{answer: replaced("@Sdt", "@Sdt;ERR;#")}
		s = loggedIn(t, r)
		if _, err = s.SetClock(t.Context(), china); err == nil || r.times("@Stm") != 0 {
			t.Errorf("date refused: %v, sent %q", err, r.got)
		}
		// It can be set but not be read afterwards: that is no failure to set it.
		s = loggedIn(t, &recorder{answer: replaced("@Gtm", "@Gtm;#")})
		if setting, err := s.SetClock(t.Context(), china); err != nil || setting.After.Kind != device.ClockUnknown || setting.SetAt.IsZero() {
			t.Errorf("not read again: %+v, %v", setting, err)
		}
	})
}
