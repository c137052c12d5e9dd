package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodyworn/ingestd/configs"
	"github.com/bodyworn/ingestd/device/usb"
	"github.com/bodyworn/ingestd/ingest/accounts"
)

const (
	// serviceUser is whom the unit runs the daemon as, and whose its files are.
	serviceUser = "ingestd"
	// packagedStore is what the unit lets the daemon write to, besides its state.
	packagedStore = "/srv/ingestd"
	unitFile      = "/usr/lib/systemd/system/ingestd.service"
	dropInFile    = "/etc/systemd/system/ingestd.service.d/10-setup.conf"
)

func (a *app) setupCmd() *cobra.Command {
	var answers string
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Set a station up: asks, writes the settings, makes the key, and looks whether all is well",
		Long: `setup asks what a station must know, writes the settings file with all its
comments, makes the station's key, tries the store and its lock, registers the first
recorders, and ends with ingestd doctor. Nothing is written before the last question.
A settings file that is there is replaced only after a yes; it is kept beside the new
one, and what it sets besides the questions stays set.

--answers FILE answers instead of a person, one NAME: ANSWER a line:
  language, replace, station.id, station.name, station.timezone, storage.kind,
  storage.embedded.root, storage.bucket, storage.s3.endpoint, storage.s3.ca_file,
  storage.s3.credentials_file, slots (names and ports: 1=1-2.1 2=1-2.2),
  recorders (serials, with officers: NMQ0007=150525 NMQ0008), try,
  administrator (the first account of the console), administrator.password_file
What is left out has its default; what has none, or is not asked for, is an error.

Exit codes: 0 set up, and doctor found nothing · 3 set up, and doctor tells what is
missing · 4 there are settings, and they were not to be replaced.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.setup(cmd.Context(), answers) },
	}
	cmd.Flags().StringVar(&answers, "answers", "", "`FILE` with the answers")
	return cmd
}

// setup is one run of it.
type setup struct {
	*app
	*asker
	file      string // of the settings
	old       *configs.Config
	values    []configs.Setting
	keys      [2]string // of the S3 store, to be written; empty: they are there
	recorders [][2]string
	// administrator is the first account of the console; empty: none is made.
	administrator, password string
	try                     bool
	owner                   *syscall.Credential // whose the daemon's files are; nil: ours
}

func (a *app) setup(ctx context.Context, answers string) error {
	q, err := a.newAsker(answers)
	if err != nil {
		return err
	}
	s := &setup{app: a, asker: q, file: a.configFile}
	if s.file == "" {
		s.file = configs.DefaultPath
	}
	if s.file, err = filepath.Abs(s.file); err != nil {
		return err
	}
	// What this shell sets is not what the service will have.
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "INGESTD_") {
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	if s.owner, err = daemonOwner(); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		s.askLanguage, s.askReplace, s.askStation, s.askStorage, s.askSlots, s.askRecorders, s.askTry, s.askAdministrator,
		func(context.Context) error { return s.unused() },
		s.write, s.makeFolders, s.tryStore, s.register, s.addAdministrator, s.finish,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// daemonOwner is the service's user, for root on a machine that has it.
func daemonOwner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(serviceUser)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the service's user: %w", err)
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(errUID, errGID); err != nil {
		return nil, fmt.Errorf("the service's user %s: %w", serviceUser, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func (s *setup) askLanguage(context.Context) error {
	language, err := s.ask(question{name: "language", en: "语言 / language", initial: "zh-CN", choices: []string{"zh-CN", "en"}})
	s.chinese = language == "zh-CN"
	if configs.Has("board.language") {
		s.set("board.language", language)
	}
	return err
}

// askReplace asks before settings are replaced. What they set stays set.
func (s *setup) askReplace(context.Context) error {
	_, err := os.Lstat(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for settings: %w", err)
	}
	replace, err := s.yes("replace", s.file+" 已存在。要替换吗？旧文件将保留", s.file+" is there. Replace it? The old file is kept", false)
	if err != nil {
		return err
	}
	if !replace {
		return exitError{exitRefused, fmt.Errorf("%s is there and was left as it is", s.file)}
	}
	s.old, err = configs.Load(s.file)
	if err != nil {
		return fmt.Errorf("the settings that are to be replaced can't be read, and what they set would be lost: mend them, or move them away: %w", err)
	}
	for _, v := range s.old.Effective() {
		if v.Source != "default" {
			s.set(v.Key, v.Value)
		}
	}
	return nil
}

func (s *setup) set(key, value string) {
	for i := range s.values {
		if s.values[i].Key == key {
			s.values[i].Value = value
			return
		}
	}
	s.values = append(s.values, configs.Setting{Key: key, Value: value})
}

// initial is what a setting has without an answer.
func (s *setup) initial(key string) string {
	for _, v := range append(s.values, configs.Default().Effective()...) {
		if v.Key == key {
			return v.Value
		}
	}
	return ""
}

// askSetting asks for the value of a setting, which is checked alone.
func (s *setup) askSetting(key, zh, en string, required bool, choices ...string) (string, error) {
	q := question{name: key, zh: zh, en: en, initial: s.initial(key), required: required, choices: choices}
	q.check = func(answer string) error { return s.problem(key, answer) }
	answer, err := s.ask(q)
	if err != nil {
		return "", err
	}
	if isPath := slices.Contains(pathSettings, key); isPath && answer != "" && !filepath.IsAbs(answer) {
		answer = filepath.Join(filepath.Dir(s.file), answer) // as in the file
	}
	s.set(key, answer)
	return answer, nil
}

// pathSettings are those of the questions that name a file or folder.
var pathSettings = []string{"storage.embedded.root", "storage.s3.ca_file", "storage.s3.credentials_file"}

// problem is what is wrong with a value, as far as it is wrong by itself.
func (s *setup) problem(key, value string) error {
	text, err := configs.Fill([]configs.Setting{{Key: key, Value: value}})
	if err != nil {
		return err
	}
	err = s.check(text)
	var refused *configs.Error
	if errors.As(err, &refused) {
		for _, p := range refused.Problems {
			if p.Key == key {
				return errors.New(p.Text)
			}
		}
		return nil
	}
	return err
}

// check checks settings without leaving them anywhere.
func (s *setup) check(text []byte) error {
	f, err := os.CreateTemp("", "ingestd-setup-*.yaml")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	_, err = configs.Load(f.Name())
	return err
}

func (s *setup) askStation(context.Context) error {
	s.say("本站编号是存储中每个对象名的开头，接入第一台记录仪之后不要再改。", "The station's id begins the name of every object in the store: do not change it once a recorder was docked.")
	if s.old == nil {
		s.set("station.id", "") // STATION-1 would be taken without a thought
	}
	if _, err := s.askSetting("station.id", "本站编号（字母、数字、- 和 _）", "station id (letters, digits, - and _)", true); err != nil {
		return err
	}
	if _, err := s.askSetting("station.name", "本站名称（可空）", "name of the station (may be empty)", false); err != nil {
		return err
	}
	_, err := s.askSetting("station.timezone", "时区，保存期限按它计算", "time zone, in which retention is counted", true)
	return err
}

func (s *setup) askStorage(context.Context) error {
	s.say("embedded：本机磁盘，能发现篡改，但本机 root 可以删除文件。s3：带 Object Lock 的 S3 服务器。",
		"embedded: a disk of this machine; it shows tampering, but root here can delete files. s3: a server with Object Lock.")
	kind, err := s.askSetting("storage.kind", "存储", "storage", true, "embedded", "s3")
	if err != nil {
		return err
	}
	if kind == "embedded" {
		_, err := s.askSetting("storage.embedded.root", "存储目录，应在专用磁盘上（第十条）", "folder of the store, on a disk of its own (第十条)", true)
		return err
	}
	for _, q := range []struct {
		key, zh, en string
		required    bool
	}{
		{"storage.s3.endpoint", "服务器 host:port，不带 https://", "server as host:port, without https://", true},
		{"storage.s3.ca_file", "签发其证书的 CA 文件（公共信任的留空）", "file of the authority that signed its certificate (empty: publicly trusted)", false},
		{"storage.bucket", "存储桶", "bucket", true},
	} {
		if _, err := s.askSetting(q.key, q.zh, q.en, q.required); err != nil {
			return err
		}
	}
	if s.initial("storage.s3.credentials_file") == "" {
		s.set("storage.s3.credentials_file", filepath.Join(filepath.Dir(s.file), "s3.keys"))
	}
	file, err := s.askSetting("storage.s3.credentials_file", "密钥文件，不存在则新建", "file with its keys; made if it is not there", true)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(file); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.keys[0], err = s.askSecret(question{name: "access_key", zh: "access key（不显示）", en: "access key (not shown)", required: true}); err != nil {
		return err
	}
	s.keys[1], err = s.askSecret(question{name: "secret_key", zh: "secret key（不显示）", en: "secret key (not shown)", required: true})
	return err
}

// askSlots takes slots that are known, or learns them by plugging in.
func (s *setup) askSlots(ctx context.Context) error {
	if s.old != nil && len(s.old.USB.Slots) > 0 {
		return nil // they stay
	}
	answer, err := s.ask(question{
		name: "slots", initial: "0",
		zh: "槽位：现在要逐个认出几个（0：以后用 ingestd slots learn），或直接写 1=1-2.1 2=1-2.2",
		en: "slots: how many to learn now (0: later, by ingestd slots learn), or as 1=1-2.1 2=1-2.2",
		check: func(answer string) error {
			if n, err := strconv.Atoi(answer); err == nil && n >= 0 && n <= 64 && (n == 0 || s.answers == nil) {
				return nil
			}
			_, err := pairs(answer, true)
			return err
		},
	})
	if err != nil {
		return err
	}
	var slots [][2]string
	if count, err := strconv.Atoi(answer); err == nil {
		if slots, err = s.learn(ctx, count); err != nil {
			return err
		}
	} else if slots, err = pairs(answer, true); err != nil {
		return err
	}
	for i, slot := range slots {
		s.set(fmt.Sprintf("usb.slots[%d].name", i), slot[0])
		s.set(fmt.Sprintf("usb.slots[%d].port", i), slot[1])
	}
	if len(slots) > 0 {
		s.set("usb.watch", string(configs.WatchSlots))
	}
	return nil
}

func (s *setup) learn(ctx context.Context, count int) (slots [][2]string, err error) {
	if count == 0 {
		return nil, nil
	}
	known := map[string]bool{}
	there, err := usb.Scan("/sys")
	if err != nil {
		return nil, fmt.Errorf("look at the USB sockets: %w", err)
	}
	for _, d := range there {
		known[d.Port] = true
	}
	for n := 1; n <= count; n++ {
		s.say(fmt.Sprintf("槽位 %d：请插入一台记录仪", n), fmt.Sprintf("slot %d: plug in a recorder", n))
		d, err := usb.NextPlugged(ctx, "", "", known)
		if err != nil {
			return nil, err
		}
		known[d.Port] = true
		slots = append(slots, [2]string{strconv.Itoa(n), d.Port})
		s.say("  → "+d.Port, "  → "+d.Port)
	}
	return slots, nil
}

// pairs reads NAME=VALUE, several in a line; without both, VALUE may be left out.
func pairs(text string, both bool) (all [][2]string, err error) {
	for _, field := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == '，' }) {
		name, value, _ := strings.Cut(field, "=")
		if name == "" || (both && value == "") {
			return nil, fmt.Errorf("%q is not NAME=VALUE", field)
		}
		all = append(all, [2]string{name, value})
	}
	return all, nil
}

func (s *setup) askRecorders(context.Context) error {
	answer, err := s.ask(question{
		name: "recorders",
		zh:   "首批记录仪的序列号及执法人员编号，如 NMQ0007=150525 NMQ0008（可空）",
		en:   "serials of the first recorders and ids of their officers, as NMQ0007=150525 NMQ0008 (may be empty)",
		check: func(answer string) error {
			_, err := pairs(answer, false)
			return err
		},
	})
	if err == nil {
		s.recorders, err = pairs(answer, false)
	}
	return err
}

func (s *setup) askTry(context.Context) (err error) {
	s.try, err = s.yes("try", "现在试用存储及其锁、生成密钥吗？（会在存储中留下几个很小的、按保存期限锁定的对象）",
		"try the store and its lock now, and make the key? (it leaves a few small objects in the store, locked as footage is)", true)
	return err
}

// consoleHere is where the console is reached until somebody says otherwise: on the
// station itself.
const consoleHere = "127.0.0.1:8443"

// askAdministrator asks for the first account of the console, which can make the others.
func (s *setup) askAdministrator(context.Context) (err error) {
	s.administrator, err = s.ask(question{
		name:  "administrator",
		zh:    "管理台第一位管理员的账号，如 wulan（可空，以后再建）",
		en:    "name of the first administrator of the console, as wulan (may be empty)",
		check: accounts.CheckName,
	})
	if err != nil || s.administrator == "" {
		return err
	}
	if s.old == nil || s.old.Admin.Listen == "" {
		s.set("admin.listen", consoleHere)
	}
	if s.answers != nil {
		file, err := s.ask(question{name: "administrator.password_file", en: "file with the administrator's password", required: true})
		if err != nil {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("administrator.password_file: %w", err)
		}
		s.password = strings.TrimRight(string(text), "\r\n")
		return accounts.CheckPassword(s.password)
	}
	password := question{
		name: "administrator's password", required: true, check: accounts.CheckPassword,
		zh: "管理员的密码（至少 12 个字，不显示）", en: "password of the administrator (at least 12 characters, not shown)",
	}
	if s.password, err = s.askSecret(password); err != nil {
		return err
	}
	again := question{
		name: "administrator's password", required: true, zh: "再输入一次（不显示）", en: "the same again (not shown)",
		check: func(typed string) error {
			if typed != s.password {
				return errors.New("the two differ")
			}
			return nil
		},
	}
	_, err = s.askSecret(again)
	return err
}

func (s *setup) addAdministrator(ctx context.Context) error {
	if s.administrator == "" {
		return nil
	}
	if err := s.asDaemonWith(ctx, strings.NewReader(s.password+"\n"), "user", "add", s.administrator, "--role", "admin", "--password-stdin"); err != nil {
		return fmt.Errorf("make the account %s: %w", s.administrator, err)
	}
	s.say("管理台账号 "+s.administrator+" 已建立。管理台：http://"+consoleHere+"/（仅本机；要从别的电脑使用，见 ingestd.yaml 的 admin）",
		"the account "+s.administrator+" is made. The console: http://"+consoleHere+"/ (this machine only; for others see admin in ingestd.yaml)")
	return nil
}

// stamped names what is kept of a file that is replaced.
func stamped(file string) string { return file + "." + time.Now().Format("20060102-150405") }

// asDaemon runs a command of ours as the service's user, so that what it makes is the
// daemon's and what the daemon may not read is found out now.
func (s *setup) asDaemon(ctx context.Context, args ...string) error {
	return s.asDaemonWith(ctx, nil, args...)
}

func (s *setup) asDaemonWith(ctx context.Context, stdin io.Reader, args ...string) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"--config", s.file}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, s.app.out, s.err
	cmd.Dir = "/"
	if s.owner != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	}
	return cmd.Run()
}
