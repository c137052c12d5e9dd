package ledger

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
)

// Fetch rebuilds a ledger's folder from a bucket alone. The folder must not be
// there, or be empty. It refuses a bucket in which VerifyPublished would find
// anything (ErrBroken). It gives the size of the log that the last checkpoint
// covers, and how many lines there are behind it: a station that was lost between
// two requests leaves such, they are kept apart in unsigned.jsonl, and the holder
// of the key may take them over with AdoptUnsigned.
func Fetch(ctx context.Context, store Store, prefix, dir string, keys Keys, origin string) (size, unsigned int64, err error) {
	size, unsigned, err = fetch(ctx, store, prefix, dir, keys, origin)
	if err != nil {
		return 0, 0, fmt.Errorf("fetch ledger %s to %s: %w", prefix, dir, err)
	}
	return size, unsigned, nil
}

func fetch(ctx context.Context, store Store, prefix, dir string, keys Keys, origin string) (size, unsigned int64, err error) {
	// The folder gets its name when it is complete; what a crash leaves has
	// another, and may be removed.
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(filepath.Dir(dir), folderMode); err != nil {
		return 0, 0, err
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".fetching-")
	if err != nil {
		return 0, 0, err
	}
	building := folder(made)
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(made))
		}
	}()
	a, err := newAudit(keys, origin)
	if err != nil {
		return 0, 0, err
	}
	there, err := a.listed(ctx, store, prefix)
	if err != nil {
		return 0, 0, err
	}
	if len(there.notes) == 0 && a.report.Sound() {
		return 0, 0, errors.New("there is no checkpoint below it; look at the bucket and the prefix")
	}
	files, err := writeLines(building, there.signedSize())
	if err != nil {
		return 0, 0, err
	}
	err = a.segments(ctx, store, prefix, there, files.add)
	if err := errors.Join(err, files.close()); err != nil {
		return 0, 0, err
	}
	if report := a.end(); !report.Sound() {
		return 0, 0, fmt.Errorf("%w: in the bucket, %s", ErrBroken, report.Findings[0])
	}
	if files.unsigned.Len() > 0 {
		if err := building.write(unsignedName, files.unsigned.Bytes()); err != nil {
			return 0, 0, err
		}
	}
	if err := building.write(checkpointName, there.notes[len(there.notes)-1]); err != nil {
		return 0, 0, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, fmt.Errorf("the folder must be empty or not be there: %w", err)
	}
	if err := os.Rename(string(building), dir); err != nil {
		return 0, 0, err
	}
	if err := folder(filepath.Dir(dir)).sync(); err != nil {
		return 0, 0, err
	}
	return files.signed, a.tree.size - files.signed, nil
}

// AdoptUnsigned appends the lines that Fetch found in the bucket without a
// checkpoint, as they are, and gives their number. Whoever can write to the bucket
// could have put them there: a person should have read them. Called again after a
// crash, it does not append them twice.
func (l *Ledger) AdoptUnsigned(ctx context.Context) (adopted int, err error) {
	err = l.locked(ctx, func() error {
		data, err := l.dir.read(unsignedName)
		if err != nil || data == nil {
			return err
		}
		first, body, _ := bytes.Cut(data, []byte("\n"))
		if from := number(string(first)); from == l.seen.tree.size {
			var lines [][]byte
			for line := range bytes.Lines(body) {
				line = bytes.TrimSuffix(line, []byte("\n"))
				entry, err := ParseLine(line)
				if err == nil && entry.Event == EventRotated {
					// Nobody has signed it, and with it the present key could not sign again.
					err = errors.New("it hands over to another key")
				}
				if err != nil {
					return fmt.Errorf("line %d of %s: %w", len(lines)+1, unsignedName, err)
				}
				lines = append(lines, line)
			}
			if err := l.write(lines); err != nil {
				return err
			}
			adopted = len(lines)
		} else if from < 0 || from > l.seen.tree.size {
			return fmt.Errorf("%s does not go on from line %d, where the log ends", unsignedName, l.seen.tree.size)
		}
		if err := l.dir.remove(unsignedName); err != nil {
			return err
		}
		return l.dir.sync()
	})
	if err != nil {
		return 0, fmt.Errorf("adopt unsigned lines of ledger %s: %w", string(l.dir), err)
	}
	return adopted, nil
}

// lineWriter writes the files of a folder that is fetched.
type lineWriter struct {
	entries, hashes *os.File
	toEntries       *bufio.Writer
	toHashes        *bufio.Writer
	unsigned        bytes.Buffer // as unsigned.jsonl has it
	signed          int64        // the size that the last checkpoint covers
}

func writeLines(d folder, signed int64) (*lineWriter, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	entries, err := os.OpenFile(d.path(entriesName), flags, fileMode)
	if err != nil {
		return nil, err
	}
	hashes, err := os.OpenFile(d.path(hashesName), flags, fileMode)
	if err != nil {
		return nil, errors.Join(err, entries.Close())
	}
	return &lineWriter{entries: entries, hashes: hashes, signed: signed,
		toEntries: bufio.NewWriter(entries), toHashes: bufio.NewWriter(hashes)}, nil
}

func (w *lineWriter) add(index int64, line []byte, hashes []tlog.Hash) error {
	if index >= w.signed {
		if index == w.signed {
			fmt.Fprintf(&w.unsigned, "%d\n", index)
		}
		w.unsigned.Write(line)
		return w.unsigned.WriteByte('\n')
	}
	_, err := w.toEntries.Write(line)
	if err == nil {
		err = w.toEntries.WriteByte('\n')
	}
	if err == nil {
		_, err = w.toHashes.Write(joined(hashes))
	}
	return err
}

// close makes the lines durable.
func (w *lineWriter) close() error {
	return errors.Join(w.toEntries.Flush(), w.toHashes.Flush(), w.entries.Sync(), w.hashes.Sync(), w.entries.Close(), w.hashes.Close())
}
