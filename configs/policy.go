package configs

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/bodyworn/ingestd/storage/policy"
)

// Rules is what the file Policy held when the settings were checked, or nil where
// none is named. A file that changes later changes nothing here.
func (r Retention) Rules() *policy.Policy { return r.rules }

// policy reads the retention file. Its faults are told with its own lines, all in
// one problem of the setting that names it.
func (k *checker) policy() {
	r := &k.cfg.Retention
	r.rules = nil
	if !filepath.IsAbs(r.Policy) { // empty, or told by texts
		return
	}
	data, file, err := readSettings(r.Policy)
	if err != nil {
		reason := err
		if in := (*fs.PathError)(nil); errors.As(err, &in) {
			reason = in.Err // the message names the path already
		}
		k.failAs(err, "retention.policy", "%s cannot be read: %v", file, reason)
		return
	}
	if r.rules, err = policy.Parse(file, data); err != nil {
		k.failAs(err, "retention.policy", "%v", err)
	}
}
