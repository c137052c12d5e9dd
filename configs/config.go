// Package configs holds the settings of a station: the file ingestd.yaml, which
// documents every one of them, and the code that reads it.
//
// It stands before the flow: cmd loads one Config, checked as a whole, and hands
// it on. A Config that Load has returned keeps these promises: every value has
// its type and lies in its bounds, every path is absolute, the retention is not
// below the floor of 第十一条, in the settings or in the retention file that they
// name, and it holds no secret. Reloading is loading again; nothing here watches
// a file or changes a Config once it is made.
package configs

import (
	"time"

	"github.com/bodyworn/ingestd/storage/policy"
)

// DefaultPath is read when no file is named; it may be missing.
const DefaultPath = "/etc/ingestd/ingestd.yaml"

// Config is all settings of a station. The tag key names a field in the file;
// a field tagged path is made absolute.
type Config struct {
	Station   Station   `key:"station"`
	StateDir  string    `key:"state_dir" path:"yes"` // journal and locks
	Storage   Storage   `key:"storage"`
	Timestamp Timestamp `key:"timestamp"`
	Digest    Digest    `key:"digest"`
	Retention Retention `key:"retention"`
	Custody   Custody   `key:"custody"`
	Ingest    Ingest    `key:"ingest"`
	Scrub     Scrub     `key:"scrub"`
	Sources   []Source  `key:"sources"`
	USB       USB       `key:"usb"`
	Recorders Recorders `key:"recorders"`
	Clock     Clock     `key:"clock"`
	Staging   Staging   `key:"staging"`
	PreUse    PreUse    `key:"preuse"`
	Board     Board     `key:"board"`
	Admin     Admin     `key:"admin"`
	Log       Log       `key:"log"`
	Metrics   Metrics   `key:"metrics"`

	file    string            // absolute; empty when there was none
	origins map[string]origin // where values come from; a key that is missing has its default
}

// Station says which station this is.
type Station struct {
	ID       string         `key:"id"` // begins every key in the store
	Name     string         `key:"name"`
	Timezone *time.Location `key:"timezone"` // never nil after Load
}

// Storage says where footage is kept and how it travels there.
type Storage struct {
	Kind         StorageKind `key:"kind"`
	Bucket       string      `key:"bucket"`
	Embedded     Embedded    `key:"embedded"`
	S3           S3          `key:"s3"`
	PartSize     ByteSize    `key:"part_size"`     // 5 MiB to 64 MiB
	BufferMemory ByteSize    `key:"buffer_memory"` // for all recorders together, at least two parts
}

// Embedded is the store in our own process tree.
type Embedded struct {
	Root string `key:"root" path:"yes"`
}

// S3 is a store elsewhere. Its keys are not here: see ReadCredentials.
type S3 struct {
	Endpoint        string `key:"endpoint"` // host:port
	Region          string `key:"region"`
	TLS             bool   `key:"tls"`                         // false only for a loopback endpoint (第十二条)
	CAFile          string `key:"ca_file" path:"yes"`          // PEM; empty: the system's authorities
	CredentialsFile string `key:"credentials_file" path:"yes"` // empty: the systemd credential s3
}

// Timestamp says who stamps the ledger's checkpoints with the time (RFC 3161).
type Timestamp struct {
	URL    string `key:"url"`                // https, http only on this machine; empty: nobody
	CAFile string `key:"ca_file" path:"yes"` // PEM; required with URL
}

// Digest says what is computed of each file beside SHA-256.
type Digest struct {
	SM3 bool `key:"sm3"` // GB/T 32905
}

// Retention says how long footage is locked.
type Retention struct {
	Months int    `key:"months"`            // calendar months, at least storage.FloorMonths (第十一条)
	Policy string `key:"policy" path:"yes"` // retention file; empty: months alone

	rules *policy.Policy // what Policy held when it was checked; nil without one
}

// Custody says who may release footage that is on hold, or dispose of it.
type Custody struct {
	// Administrators are uids, such as "1000", or names of users; empty: whoever can use
	// the state folder.
	Administrators []string `key:"administrators"`
	TwoPersons     bool     `key:"two_persons"` // a second person must confirm
	Dispose        Dispose  `key:"dispose"`
}

// Ingest says how recorders are read.
type Ingest struct {
	Parallel  int           `key:"parallel"` // recorders read at the same time
	Verify    Verify        `key:"verify"`
	Identical Identical     `key:"identical"`
	Settle    time.Duration `key:"settle"` // quiet time before a watched folder's card is taken
	// StallAfter is how long a session may stand still untold; 0: for ever.
	StallAfter time.Duration `key:"stall_after"`
}

// Scrub says how stored footage is read again.
type Scrub struct {
	Every     time.Duration `key:"every"`     // for each session; 0: never
	Bandwidth ByteSize      `key:"bandwidth"` // per second
}

// Source is one place where recorders appear.
type Source struct {
	Path string     `key:"path" path:"yes"`
	Kind SourceKind `key:"kind"`
	Slot string     `key:"slot"` // name on the board, may be empty
}

// USB says which sockets of the station are slots.
type USB struct {
	Watch WatchUSB `key:"watch"`
	Slots []Slot   `key:"slots"`
}

// Slot is a socket with a name.
type Slot struct {
	Name string `key:"name"` // on the board
	Port string `key:"port"` // path of ports, such as 2-1.3
}

// Recorders says how recorders are treated.
type Recorders struct {
	Unregistered  Unregistered `key:"unregistered"`
	Profiles      string       `key:"profiles" path:"yes"`       // folder of the station's own; may be empty
	PasswordsFile string       `key:"passwords_file" path:"yes"` // may be empty
}

// Clock says how recorders' clocks are treated (第十条).
type Clock struct {
	WarnOver time.Duration `key:"warn_over"`
	Set      bool          `key:"set"`
}

// Staging says where recorders are copied to while the store is away (暂存).
type Staging struct {
	Dir     string   `key:"dir" path:"yes"`      // empty: nowhere
	KeyFile string   `key:"key_file" path:"yes"` // empty: the systemd credential staging
	Reserve ByteSize `key:"reserve"`             // left free on its disk
}

// PreUse is what a recorder needs for its next shift (第十条).
type PreUse struct {
	Battery int      `key:"battery"` // percent; 0: whatever
	Free    ByteSize `key:"free"`    // 0: whatever
}

// Board is the page that shows officers the slots.
type Board struct {
	Listen       string   `key:"listen"` // host:port of loopback; empty: there is none
	Language     Language `key:"language"`
	Columns      int      `key:"columns"` // 0: as many as look best
	Phone        string   `key:"phone"`   // of the administrator, as it is dialled; may be empty
	AllowedHosts []string `key:"allowed_hosts"`
}

// Admin is the console for administrators, in a browser.
type Admin struct {
	Listen       string   `key:"listen"` // host:port; empty: there is none
	TLS          AdminTLS `key:"tls"`
	AllowedHosts []string `key:"allowed_hosts"` // names that browsers know it by, in lower case
	BehindProxy  bool     `key:"behind_proxy"`  // a proxy speaks TLS with browsers
	OIDC         OIDC     `key:"oidc"`
}

// AdminTLS is the certificate of the console.
type AdminTLS struct {
	CertFile string `key:"cert_file" path:"yes"` // PEM; empty: no TLS
	KeyFile  string `key:"key_file" path:"yes"`  // PEM; empty: the systemd credential console-key
}

// OIDC is an OpenID provider whose accounts the console lets in.
type OIDC struct {
	Issuer           string     `key:"issuer"` // https; empty: there is none
	Name             string     `key:"name"`   // for people
	ClientID         string     `key:"client_id"`
	ClientSecretFile string     `key:"client_secret_file" path:"yes"` // empty: none, PKCE alone
	CAFile           string     `key:"ca_file" path:"yes"`            // PEM; empty: the system's authorities
	NameClaim        string     `key:"name_claim"`
	OfficerClaim     string     `key:"officer_claim"`
	RoleClaim        string     `key:"role_claim"`
	Roles            []OIDCRole `key:"roles"`
}

// OIDCRole gives a role to who has a value in the claim.
type OIDCRole struct {
	Value string `key:"value"`
	Role  Role   `key:"role"`
}

// Log says what is logged and how.
type Log struct {
	Level  LogLevel  `key:"level"`
	Format LogFormat `key:"format"`
}

// Metrics says where monitoring can ask.
type Metrics struct {
	Listen string `key:"listen"` // host:port of this machine; empty: nowhere
}

// Dispose is the value of custody.dispose.
type Dispose string

// Who disposes of footage whose time has come (到期销毁).
const (
	DisposeManual    Dispose = "manual"    // people, by a plan
	DisposeAutomatic Dispose = "automatic" // the station, by its plan of the day before
)

func (Dispose) choices() []string { return []string{"manual", "automatic"} }

// Role is the value of admin.oidc.roles[].role: a role of package accounts.
type Role string

func (Role) choices() []string { return []string{"officer", "auditor", "itstaff", "admin"} }

// StorageKind is the value of storage.kind.
type StorageKind string

// The stores.
const (
	StorageEmbedded StorageKind = "embedded"
	StorageS3       StorageKind = "s3"
)

func (StorageKind) choices() []string { return []string{"embedded", "s3"} }

// Verify is the value of ingest.verify.
type Verify string

// The ways to verify a stored file. VerifyChecksum is the weaker one: it trusts
// the server's word.
const (
	VerifyReadback Verify = "readback"
	VerifyChecksum Verify = "checksum"
)

func (Verify) choices() []string { return []string{"readback", "checksum"} }

// Identical is the value of ingest.identical.
type Identical string

// The ways to recognise a file that is already stored.
const (
	IdenticalQuick Identical = "quick" // path, size, mtime and SHA-256 of the first and last MiB
	IdenticalFull  Identical = "full"  // SHA-256 of the whole file
)

func (Identical) choices() []string { return []string{"quick", "full"} }

// SourceKind is the value of sources[].kind.
type SourceKind string

// The kinds of sources.
const (
	SourceMounts SourceKind = "mounts" // every mount point below the path is one recorder
	SourceFolder SourceKind = "folder" // every folder directly in the path is one card
)

func (SourceKind) choices() []string { return []string{"mounts", "folder"} }

// WatchUSB is the value of usb.watch.
type WatchUSB string

// Which sockets are watched.
const (
	WatchOff   WatchUSB = "off"
	WatchSlots WatchUSB = "slots" // those that usb.slots names
	WatchAll   WatchUSB = "all"
)

func (WatchUSB) choices() []string { return []string{"off", "slots", "all"} }

// Unregistered is the value of recorders.unregistered.
type Unregistered string

// What happens with a recorder that is not in the register (台账).
const (
	UnregisteredIngest Unregistered = "ingest"
	UnregisteredRefuse Unregistered = "refuse"
)

func (Unregistered) choices() []string { return []string{"ingest", "refuse"} }

// Language is the value of board.language.
type Language string

// The languages.
const (
	LanguageChinese Language = "zh-CN"
	LanguageEnglish Language = "en"
)

func (Language) choices() []string { return []string{"zh-CN", "en"} }

// LogLevel is the value of log.level, in the words of zerolog.
type LogLevel string

// The levels.
const (
	LevelDebug LogLevel = "debug"
	LevelInfo  LogLevel = "info"
	LevelWarn  LogLevel = "warn"
	LevelError LogLevel = "error"
)

func (LogLevel) choices() []string { return []string{"debug", "info", "warn", "error"} }

// LogFormat is the value of log.format.
type LogFormat string

// The formats. FormatAuto is FormatConsole on a terminal, FormatJournal where the log goes
// to the journal of systemd, else FormatJSON.
const (
	FormatAuto    LogFormat = "auto"
	FormatJSON    LogFormat = "json"
	FormatJournal LogFormat = "journal" // JSON, with the priority before it: see sd-daemon(3)
	FormatConsole LogFormat = "console"
)

func (LogFormat) choices() []string { return []string{"auto", "json", "journal", "console"} }

// File is the absolute path of the file that was read, empty when there was
// none.
func (c *Config) File() string { return c.file }
