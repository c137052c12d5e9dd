package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bodyworn/ingestd/configs"
)

// write puts the settings in their place: whole or not at all, and never over others.
//
//  1. The new file is durable under another name.
//  2. An old one has a second name, by which it stays.
//  3. The new one has its name. A crash before leaves the old one in force.
func (s *setup) write(context.Context) error {
	text, err := configs.Fill(s.values)
	if err != nil {
		return err
	}
	err = s.check(text)
	if refused := (*configs.Error)(nil); errors.As(err, &refused) {
		var words []string // not of the file that they were tried in
		for _, p := range refused.Problems {
			words = append(words, p.Key+" "+p.Text)
		}
		return exitError{exitConfig, fmt.Errorf("these settings do not go together, nothing was written: %s", strings.Join(words, "; "))}
	}
	if err != nil {
		return err
	}
	dir := filepath.Dir(s.file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	if s.keys[0] != "" {
		keys := fmt.Sprintf("access_key: %s\nsecret_key: %s\n", s.keys[0], s.keys[1])
		if err := s.place(s.initial("storage.s3.credentials_file"), []byte(keys), false); err != nil {
			return err
		}
	}
	if err := s.place(s.file, text, s.old != nil); err != nil {
		return err
	}
	s.say("已写入 "+s.file, "written: "+s.file)
	return nil
}

// place makes a file that root may write and the daemon read.
func (s *setup) place(path string, body []byte, replace bool) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // made with 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if removed := os.Remove(f.Name()); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}()
	_, err = f.Write(body)
	if s.owner != nil && err == nil {
		err = errors.Join(f.Chown(0, int(s.owner.Gid)), f.Chmod(0o640))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if replace {
		kept := stamped(path)
		if err := os.Link(path, kept); err != nil {
			return fmt.Errorf("keep the old settings as %s: %w", kept, err)
		}
		s.say("旧设置保留为 "+kept, "the old settings are kept as "+kept)
		err = os.Rename(f.Name(), path)
	} else {
		// A link does not replace what has come meanwhile, as a rename would.
		err = os.Link(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeFolders makes what the daemon's user may not make itself, and lets the unit
// write there. A folder that is there and has something in it is left as it is.
func (s *setup) makeFolders(ctx context.Context) error {
	cfg, err := configs.Load(s.file)
	if err != nil {
		return err
	}
	writable := []string{cfg.StateDir}
	if cfg.Storage.Kind == configs.StorageEmbedded {
		writable = append(writable, cfg.Storage.Embedded.Root)
	}
	if cfg.Staging.Dir != "" {
		writable = append(writable, cfg.Staging.Dir)
	}
	var outside []string // of what the unit lets the daemon write to
	for _, dir := range writable {
		if s.owner != nil {
			if err := s.makeFolder(dir); err != nil {
				return err
			}
		}
		if dir != "/var/lib/ingestd" && dir != packagedStore && !strings.HasPrefix(dir, packagedStore+"/") {
			outside = append(outside, dir)
		}
	}
	if _, err := os.Lstat(unitFile); s.file != configs.DefaultPath || err != nil {
		return nil //nolint:nilerr // there is no service of this station
	}
	return s.dropIn(ctx, outside)
}

func (s *setup) makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	inside, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look into %s: %w", dir, err)
	}
	for _, e := range inside {
		if e.Name() != "lost+found" {
			return nil
		}
	}
	if err := os.Chown(dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
		return fmt.Errorf("give %s to %s: %w", dir, serviceUser, err)
	}
	return nil
}

// dropIn tells systemd of folders that the packaged unit does not know: to let the
// daemon write there, and not to start it before their disks are mounted, or it would
// begin an empty store below an empty mount point.
func (s *setup) dropIn(ctx context.Context, outside []string) error {
	text := "# Written by ingestd setup: folders that the settings name.\n"
	if len(outside) > 0 {
		for i, dir := range outside {
			// The quotes of systemd: a backslash and a quote are escaped, % is doubled.
			outside[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(dir) + `"`
		}
		all := strings.Join(outside, " ")
		text += "[Unit]\nRequiresMountsFor=" + all + "\n\n[Service]\nReadWritePaths=" + all + "\n"
	}
	if err := os.MkdirAll(filepath.Dir(dropInFile), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", dropInFile, err)
	}
	if err := writeDurably(dropInFile, []byte(text)); err != nil {
		return fmt.Errorf("write %s: %w", dropInFile, err)
	}
	if _, err := os.Lstat("/run/systemd/system"); err != nil {
		return nil //nolint:nilerr // systemd does not run here, and reads it when it does
	}
	if out, err := exec.CommandContext(ctx, "systemctl", "daemon-reload").CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl daemon-reload: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// tryStore makes the key and tries the lock, as the daemon would at its start.
func (s *setup) tryStore(ctx context.Context) error {
	if !s.try {
		return nil
	}
	s.say("正在试用存储…", "trying the store …")
	err := s.asDaemon(ctx, "run", "--check-only")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitFindings {
		return nil // doctor tells them below
	}
	if err != nil {
		return fmt.Errorf("the settings are written, and the store can't be used yet; see above, and run ingestd doctor when it is mended: %w", err)
	}
	return nil
}

func (s *setup) register(ctx context.Context) error {
	for _, r := range s.recorders {
		args := []string{"recorders", "add", r[0]}
		if r[1] != "" {
			args = append(args, "--officer", r[1])
		}
		if err := s.asDaemon(ctx, args...); err != nil {
			return fmt.Errorf("register recorder %s: %w", r[0], err)
		}
	}
	return nil
}

// finish shows the key and has doctor say whether all is well.
func (s *setup) finish(ctx context.Context) error {
	if s.try || len(s.recorders) > 0 {
		if err := s.asDaemon(ctx, "key", "show"); err != nil {
			return fmt.Errorf("show the station's key: %w", err)
		}
	}
	err := s.asDaemon(ctx, "doctor")
	var exit *exec.ExitError
	found := errors.As(err, &exit) && exit.ExitCode() == exitFindings
	if err != nil && !found {
		return fmt.Errorf("doctor: %w", err)
	}
	cfg, err := configs.Load(s.file)
	if err != nil {
		return err
	}
	nothing := errNothingToWatch(cfg) != nil
	if nothing {
		s.say("缺少：尚无槽位。用 ingestd slots learn 认出槽位，把结果写入 "+s.file, "missing: no slot is known yet. Find them with ingestd slots learn and put them into "+s.file)
	}
	if found || nothing {
		s.say("设置已写好；上面列出了还缺什么。改正后运行 ingestd doctor。", "The settings are written; what is missing is listed above. When it is mended, run ingestd doctor.")
		return exitError{exitFindings, errors.New("set up, and something is missing, see above")}
	}
	s.say("一切正常。启动采集服务：systemctl enable --now ingestd", "All is well. Start the daemon: systemctl enable --now ingestd")
	return nil
}
