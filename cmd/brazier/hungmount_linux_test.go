package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// hang replaces a file by a FIFO. Whoever opens it waits until somebody writes into it: so does a mount that hangs.
func hang(t *testing.T, path string) {
	t.Helper()
	fifo := path + ".fifo"
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fifo, path); err != nil {
		t.Fatal(err)
	}
}

// A token file whose mount hangs holds its page alone, whether it hangs from the start or later: other pages deliver, new
// pages are taken, and holds are heard of. Once the file can be read, its page goes on.
func TestHungTokenFile(t *testing.T) {
	t.Parallel()
	acme, stuck, later := newTestPage("1029384756", "acme"), newTestPage("1029384701", "stuck"), newTestPage("1029384702", "later")
	fb := newFacebook(t, acme, stuck, later)
	pages, all := writePages(t, acme, stuck), writePages(t, acme, stuck, later)
	file := func(name string) string { return filepath.Join(filepath.Dir(pages), name) }
	hang(t, file("stuck.token"))
	data := t.TempDir()
	p := startProcess(t, "brazier", "serve", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", "--data="+data, "--pages="+pages, "--graph-url="+fb.URL(),
		"--log-format=json", "--slow-start=1s")
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.log.tail())
		}
	})
	address := p.log.await(t, "started")["address"].(string)
	ops := "http://" + p.log.await(t, "ops")["address"].(string)
	postAll(t, address, stuck, "2001", 1)
	postAll(t, address, acme, "2002", 1)
	if held := p.log.await(t, "held"); held["page"] != "stuck" || !strings.Contains(held["reason"].(string), "stuck.token cannot be read") {
		t.Errorf("held line: %v", held)
	}
	eventually(t, "the other page delivers", func() bool { return fb.Counts().Accepted == 1 })

	hang(t, file("acme.token")) // its last token goes on being used
	if got := command(t, "", "pages", "hold", acme.id, "--data="+data, "--pages="+pages); got.code != cli.ExitOK {
		t.Fatal(got.err)
	}
	eventually(t, "the hold is heard of", func() bool {
		_, metrics := get(t, ops+"/metrics")
		return strings.Contains(metrics, `brazier_page_held{page="acme"} 1`)
	})
	if got := command(t, "", "pages", "resume", acme.id, "--data="+data, "--pages="+pages); got.code != cli.ExitOK {
		t.Fatal(got.err)
	}
	content := read(t, all)
	for _, name := range []string{"acme.token", "stuck.token"} { // those that hang
		content = strings.Replace(content, filepath.Join(filepath.Dir(all), name), file(name), 1)
	}
	writeFile(t, pages, content)
	eventually(t, "a new page is taken", func() bool { return len(p.log.events("pages")) == 1 })
	postAll(t, address, acme, "2003", 1)
	postAll(t, address, later, "2004", 1)
	eventually(t, "both deliver", func() bool { return fb.Counts().Accepted == 3 })

	p.log.await(t, "file_hangs")
	if err := os.WriteFile(file("stuck.token"), []byte(stuck.token), 0o600); err != nil { // into the FIFO, once it is read
		t.Fatal(err)
	}
	eventually(t, "the page goes on", func() bool { return fb.Counts().Accepted == 4 })
	if code := p.terminate(); code != cli.ExitOK {
		t.Errorf("exit code %d:\n%s", code, p.log.tail())
	}
}
