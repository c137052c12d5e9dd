package configs

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of the board.
const (
	maxColumns = 12
	maxPhone   = 24 // characters: more would not be read from where people stand
)

// hostName is what a browser may call us by, without a port.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

func (k *checker) board() {
	b := k.cfg.Board
	if b.Listen != "" {
		k.boardListen(b.Listen)
	}
	if b.Columns < 0 || b.Columns > maxColumns {
		k.fail("board.columns", "must be from 1 to %d, or 0 for as many as look best, not %d", maxColumns, b.Columns)
	}
	if utf8.RuneCountInString(b.Phone) > maxPhone {
		k.fail("board.phone", "must not be longer than %d characters", maxPhone)
	}
	if n := len(b.AllowedHosts); n > maxSources {
		k.fail("board.allowed_hosts", tooManyText, maxSources, n)
		return
	}
	for i, name := range b.AllowedHosts {
		if _, err := netip.ParseAddr(name); err != nil && !hostName.MatchString(name) {
			k.fail(entry("board.allowed_hosts", i), "must be a name or address without a port, such as dock.example.org, not %s", quoted(name))
		}
	}
}

// boardListen takes only an address of this machine: the board has no login, and who
// was out when is internal (第十二条).
func (k *checker) boardListen(listen string) {
	host, port, err := net.SplitHostPort(listen)
	number, portErr := strconv.Atoi(port)
	switch {
	case err != nil || host == "" || portErr != nil || number < 1 || number > 65535 || strings.Contains(listen, "://"):
		k.fail("board.listen", "must be host:port, such as 127.0.0.1:8790, or empty for no board, not %s", quoted(listen))
	case !isLoopback(host):
		k.fail("board.listen", "%s", fmt.Sprintf("must be an address of this machine alone (127.0.0.1, ::1, localhost), not %s: the board has no login, and what it shows is internal (第十二条)", quoted(host)))
	}
}
