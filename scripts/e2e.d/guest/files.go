//go:build linux

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/bodyworn/ingestd/scripts/e2e.d/wire"
)

func runToEnd(e wire.Exec) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), e.Within)
	defer cancel()
	out, err := exec.CommandContext(ctx, e.Args[0], e.Args[1:]...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		return nil, fmt.Errorf("%q: %w (%w): %s", e.Args, err, ctx.Err(), out)
	}
	ran := wire.Ran{Out: out}
	if exit != nil {
		ran.Code = exit.ExitCode()
	}
	return ran, nil
}

func writeFile(f wire.File) (any, error) {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return nil, err
	}
	mode := os.FileMode(f.Mode)
	if mode == 0 {
		mode = 0o644
	}
	if f.Packed {
		return nil, unpack(f)
	}
	return nil, os.WriteFile(f.Path, f.Data, mode)
}

// unpack leaves zeros out: the machine's files are in its memory.
func unpack(f wire.File) (err error) {
	packed, err := gzip.NewReader(bytes.NewReader(f.Data))
	if err != nil {
		return err
	}
	out, err := os.Create(f.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	block := make([]byte, 4096)
	for at := int64(0); ; {
		n, err := io.ReadFull(packed, block)
		if slices.ContainsFunc(block[:n], func(b byte) bool { return b != 0 }) {
			if _, err := out.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return out.Truncate(at)
		}
		if err != nil {
			return err
		}
	}
}

func readFile(f wire.File) (any, error) {
	data, err := os.ReadFile(f.Path)
	return wire.File{Path: f.Path, Data: data}, err
}

func fill(f wire.Fill) (_ any, err error) {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return nil, err
	}
	out, err := os.Create(f.Path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, wire.Content(f.Seed, f.Size)); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return nil, out.Sync()
}

// forward listens for as long as the machine runs.
func forward(f wire.Forward) (any, error) {
	listener, err := net.Listen("tcp", f.Listen)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				fmt.Fprintln(os.Stderr, "agent: accept:", err)
				return
			}
			go relay(from, f.To)
		}
	}()
	return nil, nil
}

// relay hands bytes on both ways, and the end of each way too.
func relay(from net.Conn, address string) {
	defer from.Close()
	to, err := net.Dial("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent: forward:", err)
		return
	}
	defer to.Close()
	done := make(chan struct{}, 2)
	pipe := func(dst, src net.Conn) {
		_, _ = io.Copy(dst, src) // either side may end it at any time
		if half, ok := dst.(*net.TCPConn); ok {
			_ = half.CloseWrite() // it may be closed already
		}
		done <- struct{}{}
	}
	go pipe(to, from)
	go pipe(from, to)
	<-done
	<-done
}
