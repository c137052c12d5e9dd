package configs_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/bodyworn/ingestd/configs"
)

func TestBounds(t *testing.T) {
	const (
		endpoint = "must be host:port, such as s3.example.org:443"
		bucket   = "must be 3 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit at both ends, not "
	)
	tests := []struct {
		yaml string
		want string // the only problem; empty when there is none
	}{
		{"station: {id: ingestd-selftest}", "station.id at line 1: is reserved for the self-test of the store; choose another"},
		{"station: {id: " + strings.Repeat("x", 32) + "}", ""},
		{"station: {id: 站一}", `station.id at line 1: must be 1 to 32 letters, digits, - or _, not "站一": it begins every key in the store`},
		{"station: {timezone: Local}", `station.timezone at line 1: must be an IANA time zone such as Asia/Shanghai, not "Local"`},
		{"station: {timezone: UTC}", ""},

		{"custody: {administrators: [\"1000\", 王芳], two_persons: true}", ""},
		{"custody: {administrators: [a, b, a]}", "custody.administrators[2] at line 1: is custody.administrators[0] once more"},
		{"custody: {administrators: [\"\"]}", "custody.administrators[0] at line 1: must be a uid or the name of a user, at most 200 characters"},
		{"custody: {administrators: [{uid: 1}]}", "custody.administrators[0] at line 1: must be a single value, not a group of settings"},
		{"custody: {dispose: automatic}", ""},
		{"custody: {dispose: never}", "custody.dispose at line 1: must be manual or automatic, not \"never\""},
		{"custody: {dispose: automatic, two_persons: true}", "custody.dispose at line 1: is automatic, and custody.two_persons wants two persons to confirm, which the station is not: set it to manual"},
		{"custody: {administrators: [a], two_persons: true}", "custody.two_persons at line 1: needs two administrators, and custody.administrators names one: nothing could ever be released"},

		{"admin: {listen: '127.0.0.1:8443'}", ""},
		{"admin: {listen: '[::1]:8443', allowed_hosts: [cjz.example.lan]}", ""},
		{"admin: {listen: '0.0.0.0:8443', allowed_hosts: [cjz.example.lan]}", "admin.listen at line 1: can be reached from the network, and there is neither admin.tls nor admin.behind_proxy: passwords and footage would be readable there (第十二条)"},
		{"admin: {listen: ':8443', behind_proxy: true, allowed_hosts: [cjz.example.lan]}", ""},
		{"admin: {listen: '10.0.0.5:8443', tls: {cert_file: a.crt, key_file: a.key}, allowed_hosts: [cjz.example.lan]}", ""},
		{"admin: {listen: '10.0.0.5:8443', tls: {cert_file: a.crt, key_file: a.key}}", "admin.allowed_hosts: is required while admin.listen is no loopback address: the name that browsers know the console by"},
		{"admin: {tls: {key_file: a.key}}", "admin.tls.cert_file: is required with admin.tls.key_file"},
		{"admin: {tls: {cert_file: a.crt}}", "admin.tls.key_file: is empty and there is no systemd credential console-key: name the file with the key of the certificate"},
		{"admin: {listen: '127.0.0.1'}", `admin.listen at line 1: must be an address of this machine and a port, such as 127.0.0.1:8443, not "127.0.0.1"`},
		{"admin: {listen: 'cjz.example.lan:8443'}", `admin.listen at line 1: must be an address of this machine and a port, such as 127.0.0.1:8443, not "cjz.example.lan:8443"`},
		{"admin: {allowed_hosts: ['https://cjz.example.lan']}", `admin.allowed_hosts[0] at line 1: must be a name such as cjz.example.lan, in lower case, without https:// and port, not "https://cjz.example.lan"`},
		{"admin: {oidc: {issuer: 'https://login.example.lan', client_id: ingestd, roles: [{value: a, role: admin}]}}", ""},
		{"admin: {oidc: {issuer: 'http://127.0.0.1:9', client_id: ingestd, roles: [{value: a, role: admin}]}}", ""},
		{"admin: {oidc: {issuer: 'http://login.example.lan', client_id: ingestd, roles: [{value: a, role: admin}]}}", "admin.oidc.issuer at line 1: must be https (第十二条); only a provider on this machine may do without"},
		{"admin: {oidc: {issuer: 'https://login.example.lan', roles: [{value: a, role: admin}]}}", "admin.oidc.client_id: is required while admin.oidc.issuer is set, at most 200 characters"},
		{"admin: {oidc: {issuer: 'https://login.example.lan', client_id: ingestd}}", "admin.oidc.roles: is required while admin.oidc.issuer is set: nobody would be let in"},
		{"admin: {oidc: {issuer: 'https://login.example.lan', client_id: ingestd, roles: [{value: a, role: root}]}}", `admin.oidc.roles[0].role at line 1: must be officer, auditor, itstaff or admin, not "root"`},
		{"admin: {oidc: {issuer: 'https://login.example.lan', client_id: ingestd, roles: [{value: a, role: admin}, {value: a, role: auditor}]}}", "admin.oidc.roles[1].value at line 1: is that of admin.oidc.roles[0] too"},

		{"storage: {bucket: Footage}", "storage.bucket at line 1: " + bucket + `"Footage"`},
		{"storage: {bucket: ab}", "storage.bucket at line 1: " + bucket + `"ab"`},
		{"storage: {bucket: a..b}", `storage.bucket at line 1: must have a letter or digit on both sides of a dot, not "a..b"`},
		{"storage: {bucket: 192.168.1.1}", `storage.bucket at line 1: must not look like an IP address, not "192.168.1.1"`},
		{"storage: {bucket: xn--abc}", `storage.bucket at line 1: must not begin with xn--, which S3 reserves, not "xn--abc"`},
		{"storage: {bucket: abc-s3alias}", `storage.bucket at line 1: must not end with -s3alias, which S3 reserves, not "abc-s3alias"`},
		{"storage: {bucket: nmq.footage-2}", ""},

		{"storage: {part_size: 5MiB, buffer_memory: 10MiB}", ""},
		{"storage: {part_size: 5MB}", "storage.part_size at line 1: must be from 5MiB to 64MiB, not 5000000B"},
		{"storage: {part_size: -5MiB}", `storage.part_size at line 1: must be a size such as 16MiB, not "-5MiB"`},
		{"storage: {part_size: 64MiB, buffer_memory: 127MiB}", "storage.buffer_memory at line 1: must hold at least two parts of 64MiB, not 127MiB"},
		{"storage: {buffer_memory: 9EiB}", `storage.buffer_memory at line 1: must be a size such as 16MiB, not "9EiB"`},

		{"storage: {kind: s3}", "storage.s3.endpoint: is required while storage.kind is s3: host:port, such as s3.example.org:443"},
		{"storage: {kind: s3, s3: {endpoint: 'localhost:9000', tls: false}}", ""},
		{"storage: {kind: s3, s3: {endpoint: '127.0.0.2:9000', tls: false}}", ""},
		{"storage: {kind: s3, s3: {endpoint: '[::1]:9000', tls: false}}", ""},
		{"storage: {s3: {endpoint: '10.0.0.5:9000', tls: false}}", "storage.s3.tls at line 1: false would send footage unprotected to 10.0.0.5 (第十二条): set it to true; only an endpoint on this machine may do without"},
		{"storage: {s3: {endpoint: 'localhost.example.org:9000', tls: false}}", "storage.s3.tls at line 1: false would send footage unprotected to localhost.example.org (第十二条): set it to true; only an endpoint on this machine may do without"},
		{"storage: {s3: {endpoint: 'https://s3.example.org'}}", "storage.s3.endpoint at line 1: " + endpoint + ", without http:// or https:// (see storage.s3.tls)"},
		{"storage: {s3: {endpoint: 'key:hush@s3.example.org:443'}}", "storage.s3.endpoint at line 1: " + endpoint + ", without a user before @: see storage.s3.credentials_file"},
		{"storage: {s3: {endpoint: s3.example.org}}", "storage.s3.endpoint at line 1: " + endpoint + `, not "s3.example.org"`},
		{"timestamp: {url: 'https://tsa.example.org/stamp?policy=1', ca_file: ca.pem}", ""},
		{"timestamp: {url: 'http://127.0.0.1:3161/', ca_file: ca.pem}", ""},
		{"timestamp: {ca_file: ca.pem}", ""},
		{"timestamp: {url: 'http://tsa.example.org/', ca_file: ca.pem}", "timestamp.url at line 1: must be https (第十二条); only an authority on this machine may do without"},
		{"timestamp: {url: 'http://localhost.example.org/', ca_file: ca.pem}", "timestamp.url at line 1: must be https (第十二条); only an authority on this machine may do without"},
		{"timestamp: {url: 'tsa.example.org', ca_file: ca.pem}", "timestamp.url at line 1: must be an address such as https://tsa.example.org/stamp"},
		{"timestamp: {url: 'https://:443/', ca_file: ca.pem}", "timestamp.url at line 1: must be an address such as https://tsa.example.org/stamp"},
		{"timestamp: {url: 'https://me:hush@tsa.example.org', ca_file: ca.pem}", "timestamp.url at line 1: must not have a user before @"},
		{"timestamp: {url: 'https://tsa.example.org'}", "timestamp.ca_file: is required while timestamp.url is set: a stamp that can't be checked proves nothing"},
		{"storage: {s3: {endpoint: 's3.example.org:99999'}}", "storage.s3.endpoint at line 1: " + endpoint + `, not "s3.example.org:99999"`},
		{"storage: {s3: {endpoint: 'localhost:9000', tls: false, ca_file: ca.pem}}", "storage.s3.ca_file at line 1: has no use while storage.s3.tls is false; remove one of the two"},

		{"state_dir: /srv/ingestd/store/state", "state_dir at line 1: lies in storage.embedded.root (/srv/ingestd/store), where every folder is a bucket; choose a folder outside"},
		{"storage: {embedded: {root: /var/lib/ingestd/store}}", ""},
		{"storage: {embedded: {root: /}}", "state_dir: lies in storage.embedded.root (/), where every folder is a bucket; choose a folder outside"},
		{"sources: [{path: /srv/ingestd/store-2, kind: folder}]", ""},
		{"sources: [{path: /var/lib/ingestd/inbox, kind: folder}]", ""},

		{"sources: [" + strings.Repeat("{path: /media, kind: mounts}, ", 65) + "]", "sources at line 1: must have at most 64 entries, not 65"},

		{"usb: {watch: slots}", "usb.slots: is required while usb.watch is slots: run `ingestd slots learn`"},
		{"usb: {watch: slots, slots: [{name: '1', port: 1-2.1}, {name: '2', port: 2-4}]}", ""},
		{"usb: {slots: [{name: '1', port: 1-2}, {name: '1', port: 1-3}]}", "usb.slots[1].name at line 1: is that of usb.slots[0] too"},
		{"usb: {slots: [{name: '1', port: 1-2}, {name: '2', port: 1-2}]}", "usb.slots[1].port at line 1: is that of usb.slots[0] too"},
		{"usb: {slots: [{name: '1', port: usb1}]}", "usb.slots[0].port at line 1: must be a path of ports such as 1-2.3, not \"usb1\": see `ingestd slots learn`"},
		{"usb: {slots: [{port: 1-2}]}", "usb.slots[0].name at line 1: is required: the name of the slot on the board, at most 200 characters"},
		{"clock: {warn_over: 0s}", "clock.warn_over at line 1: must be from 1s to 1h, not 0s"},
		{"preuse: {battery: 101}", "preuse.battery at line 1: must be from 0 to 100 percent, not 101"},
		{"preuse: {battery: 0, free: 0B}", ""},

		{"staging: {dir: /srv/staging, key_file: /etc/ingestd/staging.key}", ""},
		{"staging: {dir: /srv/ingestd/store/x}", "staging.dir at line 1: lies in or around storage.embedded.root (/srv/ingestd/store); choose a folder on another disk"},
		{"staging: {dir: /srv/staging, key_file: /srv/staging/key}", "staging.key_file at line 1: lies in staging.dir, so that whoever has the disk has the key; choose a file elsewhere"},
		{"staging: {dir: /srv/inbox/x}\nsources: [{path: /srv/inbox, kind: folder}]", "staging.dir at line 1: lies in or around sources[0].path (/srv/inbox): copies would be taken in as cards"},

		{"board: {listen: ''}", ""},
		{"board: {listen: '[::1]:80', language: en, columns: 12, phone: '8012', allowed_hosts: [dock.example.org, 10.0.0.5]}", ""},
		{"board: {listen: '0.0.0.0:8790'}", "board.listen at line 1: must be an address of this machine alone (127.0.0.1, ::1, localhost), not \"0.0.0.0\": the board has no login, and what it shows is internal (第十二条)"},
		{"board: {listen: 'dock.example.org:8790'}", "board.listen at line 1: must be an address of this machine alone (127.0.0.1, ::1, localhost), not \"dock.example.org\": the board has no login, and what it shows is internal (第十二条)"},
		{"board: {listen: ':8790'}", "board.listen at line 1: must be host:port, such as 127.0.0.1:8790, or empty for no board, not \":8790\""},
		{"board: {language: mn}", "board.language at line 1: must be zh-CN or en, not \"mn\""},
		{"board: {columns: 13}", "board.columns at line 1: must be from 1 to 12, or 0 for as many as look best, not 13"},
		{"board: {allowed_hosts: [a.example, 'http://b.example/']}", "board.allowed_hosts[1] at line 1: must be a name or address without a port, such as dock.example.org, not \"http://b.example/\""},
		{"board: {allowed_hosts: [{name: a.example}]}", "board.allowed_hosts[0] at line 1: must be a single value, not a group of settings"},
		{"board: {allowed_hosts: a.example}", "board.allowed_hosts at line 1: must be a list, not the single value \"a.example\""},
		{"metrics: {listen: ''}", ""},
		{"metrics: {listen: '[::1]:9790'}", ""},
		{"metrics: {listen: 'localhost:1'}", ""},
		{"metrics: {listen: '9790'}", `metrics.listen at line 1: must be host:port, such as 127.0.0.1:9790, not "9790"`},
		{"metrics: {listen: '127.0.0.1:http'}", `metrics.listen at line 1: must be host:port, such as 127.0.0.1:9790, not "127.0.0.1:http"`},
		{"metrics: {listen: ':9790'}", `metrics.listen at line 1: must be on this machine, such as 127.0.0.1:9790, not ":9790": nobody has to log in there; let an agent on this machine pass it on`},
		{"metrics: {listen: '0.0.0.0:9790'}", `metrics.listen at line 1: must be on this machine, such as 127.0.0.1:9790, not "0.0.0.0:9790": nobody has to log in there; let an agent on this machine pass it on`},
		{"metrics: {listen: 'station.example.lan:9790'}", `metrics.listen at line 1: must be on this machine, such as 127.0.0.1:9790, not "station.example.lan:9790": nobody has to log in there; let an agent on this machine pass it on`},

		{"retention: {months: 1200}", ""},
		{"retention: {months: 1201}", "retention.months at line 1: must be at most 1200, not 1201: a lock cannot be shortened afterwards"},
		{"retention: {months: -7}", "retention.months at line 1: must be at least 6, not -7: footage is kept no less than six months (第十一条)"},
		{"ingest: {settle: 2h}", "ingest.settle at line 1: must be above 0s and at most 1h0m0s, not 2h0m0s"},
		{"ingest: {settle: 0s}", "ingest.settle at line 1: must be above 0s and at most 1h0m0s, not 0s"},
	}
	for i, test := range tests {
		t.Run(fmt.Sprintf("%d", i), func(t *testing.T) {
			file := writeFile(t, test.yaml+"\n")
			_, err := configs.Load(file)
			if test.want == "" {
				if err != nil {
					t.Errorf("%s: %v", test.yaml, err)
				}
				return
			}
			checkProblems(t, err, file, test.want)
		})
	}
}

// Validate holds a Config made in code to the rules of the file.
func TestValidate(t *testing.T) {
	cfg := configs.Default()
	cfg.Station.Timezone = nil
	cfg.Retention.Months = 5
	cfg.Log.Level = "loud"
	cfg.StateDir = "state"
	checkProblems(t, cfg.Validate(), "FILE",
		`state_dir: must be an absolute path, not "state"`,
		`log.level: must be debug, info, warn or error, not "loud"`,
		"station.timezone: is required, such as Asia/Shanghai",
		"retention.months: must be at least 6, not 5: footage is kept no less than six months (第十一条)",
	)
	if err := configs.Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestByteSizeString(t *testing.T) {
	var got []string
	for _, size := range []configs.ByteSize{0, 1, 1023, configs.KiB, 16 * configs.MiB, configs.GiB, configs.GiB + 1, 1536 * configs.MiB} {
		got = append(got, size.String())
	}
	want := []string{"0B", "1B", "1023B", "1KiB", "16MiB", "1GiB", "1073741825B", "1536MiB"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
