package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
)

// testAllTokensDie takes their tokens away from ten pages at once, and gives them others as Kubernetes does: a symbolic link is
// set to another directory, whose files have the same length and time (K3-05, K3-07).
func testAllTokensDie(t *testing.T) {
	pages := scenarioPages(10)
	const each = 5
	s := newScenario(t, "20ms", pages)
	dir := filepath.Dir(s.file)
	mounted, next := filepath.Join(dir, "..1"), filepath.Join(dir, "..2")
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, of := range []string{mounted, next} {
		if err := os.Mkdir(of, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	renewed := func(page testPage) string { return strings.ToUpper(page.token) } // of the same length
	link(filepath.Base(mounted), "..data")
	for _, page := range pages {
		name := page.name + ".token"
		old, new := filepath.Join(mounted, name), filepath.Join(next, name)
		writeFile(t, old, page.token+"\n")
		writeFile(t, new, renewed(page)+"\n")
		info, err := os.Stat(old)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(new, info.ModTime(), info.ModTime()); err != nil {
			t.Fatal(err)
		}
		link(filepath.Join("..data", name), name)
		s.steer(http.MethodPost, "/pages/"+page.id+"/token", map[string]int{"dead": 463})
	}
	s.each(pages, func(_ int, page testPage) { s.post(page, "hello", each) })
	s.await("the pages are held", pages, func(_ int, h happened) bool { return len(h["held"]) > 0 })
	for _, page := range pages {
		s.steer(http.MethodPost, "/pages/"+page.id+"/token", map[string]string{"token": renewed(page)})
	}
	link(filepath.Base(next), "..data")
	all := s.await("all is delivered", pages, func(_ int, h happened) bool {
		return len(h.ids("delivered")) == each && len(h["resumed"]) == 1
	})
	var summary struct{ Calls, Accepted int }
	getJSON(t, s.control+"/summary", &summary)
	t.Logf("%d calls for %d messages", summary.Calls, each*len(pages))
	for _, page := range pages {
		h := all[page.name]
		if len(h["held"]) != 1 || h["held"][0]["class"] != "auth" || len(h["dead"]) > 0 {
			t.Errorf("%s: %s", page.name, h.summary())
		}
		keepsSecrets(t, s.serve.log.String(), page.token, renewed(page))
	}
}

// testTooFewFiles gives a process fewer files than connections are opened to it. It is slow while they are open, and takes and
// delivers everything (K3-04).
func testTooFewFiles(t *testing.T) {
	if err := build(); err != nil {
		t.Fatal(err)
	}
	page := newTestPage("1029384756", "acme")
	fb := newFacebook(t, page)
	p := startCommand(t, exec.Command("sh", "-c", `ulimit -n 64; exec "$0" "$@"`, filepath.Join(bin, "brazier"), "serve", "--listen=127.0.0.1:0",
		"--ops-listen=off", "--data="+t.TempDir(), "--pages="+writePages(t, page), "--graph-url="+fb.URL(), "--log-format=json"))
	ingress := p.log.await(t, "started")["address"].(string)
	var idle []net.Conn
	for range 90 { // those that are not accepted wait in the kernel
		conn, err := net.Dial("tcp", ingress)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
	}
	const messages = 20
	answers := make(chan string, messages)
	var posting sync.WaitGroup
	for i := range messages {
		posting.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			status, answer, err := post(client, ingress, page, message(fmt.Sprintf("2003%012d", i), "hello"), nil)
			answers <- fmt.Sprint(status)
			if err != nil || status != http.StatusAccepted {
				t.Errorf("answer %d %s, error %v", status, answer, err)
			}
		})
	}
	eventually(t, "it says that files are short", func() bool {
		return strings.Contains(p.log.String(), "too many open files") || len(answers) == messages
	})
	t.Logf("files were short: %v, answered before the connections were closed: %d", strings.Contains(p.log.String(), "too many open files"), len(answers))
	for _, conn := range idle {
		conn.Close()
	}
	posting.Wait()
	eventually(t, "all are delivered", func() bool { return fb.Counts().Accepted == messages })
	if code := p.terminate(); code != cli.ExitOK {
		t.Errorf("exit code %d:\n%s", code, p.log.tail())
	}
}

// What people put into token files besides the token (K3-13).
func TestTokenFileForms(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "acme.token")
	for _, c := range []struct{ name, content, token string }{ // no token: an error, and the page is held with it
		{"alone", "EAAtoken", "EAAtoken"},
		{"line feed", "EAAtoken\n", "EAAtoken"},
		{"CRLF", "EAAtoken\r\n", "EAAtoken"},
		{"spaces around it", " EAAtoken \n", "EAAtoken"},
		{"quotes", `"EAAtoken"`, `"EAAtoken"`}, // Facebook refuses it, and the page is held
		{"empty", "", ""},
		{"blank", " \r\n", ""},
		{"byte order mark", "\ufeffEAAtoken\n", ""},
		{"Bearer", "Bearer EAAtoken\n", ""},
		{"a second line", "EAAtoken\nEAAother\n", ""},
	} {
		writeFile(t, path, c.content)
		cred, err := pagefile.Secrets{TokenFile: path}.Read()
		if cred.Token != c.token || (err == nil) != (c.token != "") {
			t.Errorf("%s: token %q, error %v", c.name, cred.Token, err)
		}
		if err != nil {
			keepsSecrets(t, err.Error(), "EAA")
		}
	}
}
