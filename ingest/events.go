package ingest

// EventKind is an event that ingestd tells of. Names and levels are stable: alarms and
// metrics are made of them.
type EventKind struct {
	Name   string
	Levels []Level // that it can have
}

var (
	info  = []Level{Info}
	warn  = []Level{Warn}
	alarm = []Level{Alarm}
)

// EventKinds are all events. What each means and what to do is in README.md.
var EventKinds = []EventKind{
	{"daemon.start", info},
	{"daemon.ready", info},
	{"daemon.stuck", alarm},
	{"daemon.stop", info},
	{"config.reloaded", []Level{Info, Warn}},
	{"config.refused", alarm},
	{"board.ready", info},
	{"board.failed", alarm},
	{"board.trouble", warn},
	{"console.certificate", []Level{Info, Alarm}},
	{"console.ready", info},
	{"console.trouble", alarm},
	{"metrics.trouble", alarm},
	{"usb.trouble", []Level{Warn, Alarm}},
	{"source.trouble", alarm},
	{"clock.station_unsynced", warn},
	{"clock.station_fell_back", alarm},
	{"clock.recorder_off", warn},
	{"clock.set", info},
	{"clock.not_set", warn},
	{"storage.selftest_passed", info},
	{"storage.marked", info},
	{"storage.audit", []Level{Warn, Alarm}},
	{"storage.unavailable", alarm},
	{"storage.back", info},
	{"storage.corrupted", warn},
	{"ledger.unpublished", []Level{Warn, Alarm}},
	{"ledger.republished", alarm},
	{"ledger.repaired", warn},
	{"timestamp.stored", info},
	{"timestamp.failed", []Level{Warn, Alarm}},
	{"slot.inserted", info},
	{"slot.identified", info},
	{"slot.removed", info},
	{"slot.preuse", []Level{Info, Warn}},
	{"slot.removed_early", alarm},
	{"device.unknown", []Level{Warn, Alarm}},
	{"device.conflict", alarm},
	{"device.card_error", []Level{Warn, Alarm}},
	{"ingest.queued", info},
	{"ingest.started", info},
	{"ingest.resumed", info},
	{"ingest.file_done", info},
	{"ingest.sent_again", warn},
	{"ingest.stalled", []Level{Info, Warn}},
	{"ingest.moving", info},
	{"ingest.finished", info},
	{"ingest.failed", []Level{Warn, Alarm}},
	{"key.changed", info},
	{"key.not_changed", warn},
	{"key.session_left", warn},
	{"retention.undecided", warn},
	{"retention.extended", info},
	{"retention.trouble", warn},
	{"retention.preview", info},
	{"retention.planned", warn},
	{"retention.disposed", info},
	{"retention.refused", alarm},
	{"verify.reread", warn},
	{"verify.mismatch", alarm},
	{"staging.staged", warn},
	{"staging.failed", []Level{Warn, Alarm}},
	{"staging.removed", info},
	{"scrub.done", []Level{Info, Alarm}},
	{"scrub.trouble", warn},
}
