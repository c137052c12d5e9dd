// Package recorders holds the profiles of recorders that are built into ingestd.
// README.md beside them says how to write one. Package device/profile reads them.
package recorders

import "embed"

// Profiles are the files *.yaml of this folder.
//
//go:embed *.yaml
var Profiles embed.FS
