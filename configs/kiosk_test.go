package configs_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/configs"
)

// The screen at the dock shows the board of the default settings, in a browser that
// keeps its sandbox and may go nowhere else.
func TestTheKioskShowsTheBoard(t *testing.T) {
	address := "http://" + configs.Default().Board.Listen
	unit, err := os.ReadFile("kiosk/ingestd-kiosk.service")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(unit), address+"/"); n != 2 || strings.Contains(string(unit), "no-sandbox") {
		t.Errorf("the unit names %s %d times, or goes without the sandbox", address, n)
	}
	text, err := os.ReadFile("kiosk/policy.json")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct{ URLBlocklist, URLAllowlist []string }
	if err := json.Unmarshal(text, &policy); err != nil {
		t.Fatal(err)
	}
	if len(policy.URLBlocklist) != 1 || policy.URLBlocklist[0] != "*" || len(policy.URLAllowlist) != 1 || policy.URLAllowlist[0] != address {
		t.Errorf("the browser may go to %+v", policy)
	}
}
