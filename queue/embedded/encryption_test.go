package embedded_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
)

const (
	key      = "0123456789abcdef0123456789abcdef"
	otherKey = "fedcba9876543210fedcba9876543210"
	greeting = "Hello-Ada-this-is-for-you-alone"
	psid     = "2003004005006007"
)

// fill stores messages: one that waits, one that is a dead letter; and the state of a page.
func fill(t *testing.T, cfg embedded.Config) (waiting *queue.Job) {
	t.Helper()
	srv := start(t, cfg)
	q := open(t, srv)
	publish := func() *queue.Job {
		job := &queue.Job{ID: queue.NewID(), Page: "1029384756", Lane: queue.Bulk, Body: []byte(`{"recipient":{"id":"` + psid + `"},"message":{"text":"` + greeting + `"}}`),
			Recipient: psid, Accepted: time.Now(), Expire: time.Now().Add(time.Hour)}
		if _, err := q.Publish(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		return job
	}
	publish()
	d := next(t, q)
	if err := d.DeadLetter(t.Context(), queue.Reason{Class: "recipient", Text: greeting}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.SetPageState(t.Context(), "1029384756", queue.PageState{Class: "page", Reason: greeting}); err != nil {
		t.Fatal(err)
	}
	waiting = publish()
	q.Close()
	closed(t, srv)
	return waiting
}

func next(t *testing.T, q *queue.Queue) *queue.Delivery {
	t.Helper()
	s := q.Source("1029384756", queue.Bulk, 1)
	defer time.AfterFunc(30*time.Second, s.Stop).Stop()
	defer s.Stop()
	d, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// filesWith returns the files below dir that hold any of the texts.
func filesWith(t *testing.T, dir string, texts ...string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, text := range texts {
			if bytes.Contains(b, []byte(text)) {
				found = append(found, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// With a key no file has a message's text or its recipient, and what was stored is there again. Without a key the same search finds them.
func TestEncryption(t *testing.T) {
	t.Parallel()
	for _, sync := range []embedded.Sync{embedded.SyncAlways, embedded.SyncInterval} {
		cfg := embedded.Config{Dir: t.TempDir(), Sync: sync, Key: key}
		waiting := fill(t, cfg)
		if found := filesWith(t, cfg.Dir, greeting, psid, key, "brazier.jobs"); len(found) > 0 {
			t.Errorf("sync %s: readable in %v", sync, found)
		}
		if d := next(t, open(t, start(t, cfg))); d.ID != waiting.ID || !bytes.Equal(d.Body, waiting.Body) {
			t.Errorf("sync %s: stored was %s, got %+v", sync, waiting.ID, d.Job)
		}
	}
	plain := embedded.Config{Dir: t.TempDir()}
	fill(t, plain)
	if found := filesWith(t, plain.Dir, greeting, psid); len(found) == 0 {
		t.Error("the search finds nothing in plain files either")
	}
}

// A directory is refused with another key, without its key, and with a key although it was not encrypted; and nothing in it is changed.
func TestEncryptionMismatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, stored, given string
		want                error
	}{
		{"another key", key, otherKey, embedded.ErrWrongKey},
		{"no key", key, "", embedded.ErrEncrypted},
		{"not encrypted", "", key, embedded.ErrNotEncrypted},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data [1]*")
			waiting := fill(t, embedded.Config{Dir: dir, Key: c.stored})
			if srv, err := embedded.Start(embedded.Config{Dir: dir, Key: c.given}); !errors.Is(err, c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("start: %v, want %v", err, c.want)
				if err == nil {
					closed(t, srv)
				}
			}
			if d := next(t, open(t, start(t, embedded.Config{Dir: dir, Key: c.stored}))); d.ID != waiting.ID || !bytes.Equal(d.Body, waiting.Body) {
				t.Errorf("afterwards: stored was %s, got %+v", waiting.ID, d.Job)
			}
		})
	}
}

func TestReadKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for content, want := range map[string]string{key + "\n": key, "  \n": "", "too-short-to-be-a-key\n": ""} {
		path := filepath.Join(dir, "key")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := embedded.ReadKey(path)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", content, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "too-short") {
			t.Errorf("the content is in %v", err)
		}
	}
	if _, err := embedded.ReadKey(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := (embedded.Config{Dir: dir, Key: "short"}).Validate(); err == nil || strings.Contains(err.Error(), `"short"`) {
		t.Errorf("a short key: %v", err)
	}
}
