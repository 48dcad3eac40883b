package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	brazesandbox "github.com/brazier-relay/brazier/worker/braze/sandbox"
)

var (
	brazeAwayFor  = flag.Duration("brazeaway.for", 0, "how long Braze is away in TestBrazeAway; 0: it is not run")
	brazeAwayRate = flag.Int("brazeaway.rate", 100, "messages a second in TestBrazeAway")
	brazeAwayTold = flag.String("brazeaway.events", "sent,failed,delivered,read", "what Braze is told in TestBrazeAway")
)

// TestBrazeAway sends while Braze answers nothing, with every event on unless the flag says which: messages go out as before, what
// Braze is to know waits on disk, and Braze has all of it afterwards, each event once.
func TestBrazeAway(t *testing.T) {
	if *brazeAwayFor == 0 {
		return // .ci/run asks for it
	}
	t.Parallel()
	const pageCount, people = 8, 10_000
	braze, err := brazesandbox.New(brazesandbox.Config{Keys: []string{brazeKey}, Burst: brazesandbox.Off, RecordLimit: 10, Latency: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(braze.Close)
	brazeAddress := freeAddress(t) // where nobody listens yet
	for n := range people {
		if _, err := braze.Create(brazesandbox.Profile{BrazeID: brazeUser(n)}); err != nil {
			t.Fatal(err)
		}
	}
	var pages []testPage
	for i := range pageCount {
		p := newTestPage(fmt.Sprint(1_029_384_700+i), fmt.Sprintf("page%02d", i))
		p.extra = "    rate: 300\n    app: shop\n    braze: eu\n    ref_secret_files: [" + p.name + ".secret]\n"
		pages = append(pages, p)
	}
	file := writePages(t, pages...)
	dir := filepath.Dir(file)
	known, _ := os.ReadFile(file)
	writeFile(t, filepath.Join(dir, "app.secret"), "sandbox-app-secret\n")
	writeFile(t, filepath.Join(dir, "verify.token"), "sandbox-verify-token\n")
	writeFile(t, filepath.Join(dir, "braze.key"), brazeKey+"\n")
	writeFile(t, file, "apps:\n  - name: shop\n    secret_files: [app.secret]\n    verify_token_file: verify.token\nbraze:\n  - name: eu\n    url: "+
		"http://"+brazeAddress+"\n    key_file: braze.key\n    events: ["+*brazeAwayTold+"]\n"+string(known))
	facebook := startProcess(t, "brazier", "sandbox", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", "--braze-listen=off", "--pages="+file,
		"--latency=20ms", "--jitter=10ms", "--page-rate=-1", "--high-volume=-1")
	graph, control := facebook.address(t, `Graph API +(http://\S+)`), facebook.address(t, `Control +(http://\S+)`)
	data, listen, ops := t.TempDir(), freeAddress(t), freeAddress(t)
	serve := startProcess(t, "brazier", "serve", "--listen="+listen, "--ops-listen="+ops, "--data="+data, "--pages="+file, "--graph-url="+graph,
		"--log-level=warn", "--log-format=json")
	eventually(t, "the ingress is ready", func() bool { return isReady("http://" + ops + "/readyz") })
	for _, p := range pages {
		if subscribe := startProcess(t, "brazier", "webhook", "subscribe", p.id, "--pages="+file, "--graph-url="+graph); subscribe.exit() != cli.ExitOK {
			t.Fatalf("%s", subscribe.log.String())
		}
	}
	putJSON(t, control+"/webhook", map[string]any{"url": "http://" + listen + "/webhook", "receipts": strings.Contains(*brazeAwayTold, "delivered"), "batch": 20, "parallel": 4, "shuffle": true})

	began := time.Now()
	c := awayCampaign{listen: listen, pages: pages, people: people}
	var largest away
	c.post(t, *brazeAwayRate, *brazeAwayFor, func() {
		seen := away{since: time.Since(began), backlog: c.accepted.Load() - int64(facebookAccepted(t, control)), memory: residentBytes(t, serve), disk: bytesIn(t, data)}
		t.Logf("%v", seen)
		largest.backlog, largest.memory, largest.disk = max(largest.backlog, seen.backlog), max(largest.memory, seen.memory), max(largest.disk, seen.disk)
	})
	eventually(t, "all messages are delivered while Braze is away", func() bool { return int64(facebookAccepted(t, control)) == c.accepted.Load() })
	if n := braze.Summary().Events; n > 0 {
		t.Fatalf("Braze took %d events while it was away", n)
	}
	t.Logf("%d messages accepted and delivered in %v, at most %v", c.accepted.Load(), time.Since(began).Round(time.Second), largest)

	back := time.Now()
	listener, err := net.Listen("tcp", brazeAddress)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: braze.API()}
	t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	want, last := 0, -1
	for _, event := range strings.Split(*brazeAwayTold, ",") {
		if event != "failed" { // none does
			want += int(c.accepted.Load())
		}
	}
	progress := time.NewTicker(30 * time.Second)
	defer progress.Stop()
	for poll := time.NewTicker(100 * time.Millisecond); braze.Summary().Events < want; {
		select {
		case <-poll.C:
		case <-progress.C:
			t.Logf("%d of %d events", braze.Summary().Events, want)
			if now := braze.Summary().Events; now == last {
				t.Fatalf("Braze has %d of %d events, and gets no more:\n%s", now, want, serve.log.tail())
			} else {
				last = now
			}
		}
	}
	took := time.Since(back)
	s := braze.Summary()
	t.Logf("%d events in %v, %.0f a second, %d calls; memory at the end %s", s.Events, took.Round(time.Second), float64(want)/took.Seconds(), s.Calls, residentBytes(t, serve))
	if s.Events != want || s.DuplicateEvents > 0 || s.Overlaps > 0 || s.Ignored > 0 || s.Invalid > 0 {
		t.Errorf("%d events, want %d; %+v", s.Events, want, s)
	}
	_, metrics := get(t, "http://"+ops+"/metrics")
	if strings.Contains(metrics, "\nbrazier_braze_events_lost_total{") {
		t.Error("events were lost")
	}
	if code := serve.terminate(); code != cli.ExitOK {
		t.Errorf("exit code %d:\n%s", code, serve.log.tail())
	}
}

// away is what is seen while Braze is away.
type away struct {
	since   time.Duration
	backlog int64 // messages accepted and not delivered
	memory  cli.Size
	disk    cli.Size
}

func (a away) String() string {
	return fmt.Sprintf("%v: %d messages on their way, memory %s, disk %s", a.since.Round(time.Second), a.backlog, a.memory, a.disk)
}

// awayCampaign posts messages to people who are users of Braze.
type awayCampaign struct {
	listen   string
	pages    []testPage
	people   int
	accepted atomic.Int64
}

// post posts at a rate for a time, and calls look now and then.
func (c *awayCampaign) post(t *testing.T, rate int, length time.Duration, look func()) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	numbers := make(chan int, rate)
	var senders sync.WaitGroup
	for range 64 {
		senders.Go(func() {
			for n := range numbers {
				header := map[string]string{"X-Brazier-User": brazeUser(n % c.people), "X-Brazier-Campaign": "spring", "X-Brazier-Dispatch": "d1",
					"Idempotency-Key": fmt.Sprint("m", n)}
				status, answer, err := post(client, c.listen, c.pages[n%len(c.pages)], message(fmt.Sprint(9_003_141_592_600_000+n%c.people), "hello"), header)
				if err != nil || status != http.StatusAccepted {
					t.Errorf("message %d: %d %s %v", n, status, answer, err)
					continue
				}
				c.accepted.Add(1)
			}
		})
	}
	due := time.NewTicker(10 * time.Millisecond)
	defer due.Stop()
	looked, began, n := time.Now(), time.Now(), 0
	for now := range due.C {
		until := min(now.Sub(began), length)
		for ; n < int(until.Seconds()*float64(rate)); n++ {
			numbers <- n
		}
		if now.Sub(looked) >= length/20 {
			look()
			looked = now
		}
		if until == length {
			break
		}
	}
	close(numbers)
	senders.Wait()
}

func putJSON(t *testing.T, url string, v any) {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", url, resp.StatusCode, answer)
	}
}

func isReady(url string) bool {
	resp, err := http.Get(url)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func facebookAccepted(t *testing.T, control string) (n int) {
	t.Helper()
	var seen struct{ Accepted int }
	getJSON(t, control+"/summary", &seen)
	return seen.Accepted
}

// residentBytes is the memory of a process in whole MiB, zero where the system does not say.
func residentBytes(t *testing.T, p *proc) cli.Size {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kib, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	n, _ := strconv.Atoi(kib)
	return cli.Size(n) >> 10 << 20
}

// bytesIn is the size of the files in a directory, in whole MiB.
func bytesIn(t *testing.T, dir string) (size cli.Size) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() { // files come and go
			return nil
		}
		if info, err := e.Info(); err == nil {
			size += cli.Size(info.Size())
		}
		return nil
	})
	return size >> 20 << 20
}

func brazeUser(n int) string { return fmt.Sprintf("%024x", 0xada000+n) }
