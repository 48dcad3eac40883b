package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// scenario is "brazier serve" and "brazier sandbox", each a process of its own.
type scenario struct {
	t                *testing.T
	serve            *proc
	control, ingress string
	data, file       string
	client           *http.Client
}

// newScenario starts both processes for these pages. The log has a line for each message: without debug lines some are left out.
func newScenario(t *testing.T, latency string, pages []testPage, flags ...string) *scenario {
	t.Helper()
	for i := range pages {
		pages[i].extra += "    rate: 100\n"
	}
	s := &scenario{t: t, data: t.TempDir(), file: writePages(t, pages...), client: &http.Client{Timeout: 30 * time.Second}}
	t.Cleanup(s.client.CloseIdleConnections)
	facebook := startProcess(t, "brazier", "sandbox", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", "--braze-listen=off", "--pages="+s.file,
		"--latency="+latency, "--jitter=0s", "--page-rate=-1", "--high-volume=-1")
	s.control = facebook.address(t, `Control +(http://\S+)`)
	s.serve = startProcess(t, "brazier", append([]string{"serve", "--listen=127.0.0.1:0", "--ops-listen=off", "--data=" + s.data, "--pages=" + s.file,
		"--graph-url=" + facebook.address(t, `Graph API +(http://\S+)`), "--log-format=json", "--log-level=debug", "--slow-start=1s"}, flags...)...)
	s.ingress = s.serve.log.await(t, "started")["address"].(string)
	return s
}

// scenarioPages returns n pages.
func scenarioPages(n int) (pages []testPage) {
	for i := range n {
		pages = append(pages, newTestPage(fmt.Sprintf("10293847%02d", 10+i), fmt.Sprintf("page%02d", i)))
	}
	return pages
}

// TestScenarios runs all scenarios at one time: they mostly wait.
func TestScenarios(t *testing.T) {
	t.Parallel()
	var running sync.WaitGroup
	defer running.Wait()
	for name, scenario := range map[string]func(*testing.T){
		"one bad message":       testOneBadMessage,
		"bad messages in front": testBadMessagesInFront,
		"wrong setting":         testWrongSetting,
		"wrong setting, mended": testWrongSettingMended,
		"every answer lost":     testEveryAnswerLost,
		"all tokens die":        testAllTokensDie,
		"too few files":         testTooFewFiles,

		"connections refused, then HTTP 503 (K3-09)": testFacebookAway(true, scripted{"times": -1, "status": 503}, false),
		"HTTP 502, forwarded (K2-22)":                testFacebookAway(false, scripted{"times": -1, "action": "html", "status": 502, "accept": true}, true),
		"a proxy wants credentials":                  testFacebookAway(false, scripted{"times": -1, "action": "html", "status": 407}, false),
	} {
		running.Go(func() { t.Run(name, scenario) })
	}
}

// steer sends a request to the control path of the sandbox.
func (s *scenario) steer(method, path string, body any) {
	s.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		s.t.Error(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.control+path, bytes.NewReader(b))
	if err != nil {
		s.t.Error(err)
		return
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer resp.Body.Close()
	if answer, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Errorf("%s %s: %d %s, error %v", method, path, resp.StatusCode, answer, err)
	}
}

// scripted is a fault: what the sandbox does to calls, as its control path takes it.
type scripted map[string]any

// graph is an error of Facebook's, until the sandbox is healed.
func graph(status, code, subcode int) scripted {
	return scripted{"times": -1, "status": status, "code": code, "subcode": subcode}
}

// with returns the fault with one more field.
func (f scripted) with(name string, value any) scripted {
	to := scripted{name: value}
	for k, v := range f {
		if k != name {
			to[k] = v
		}
	}
	return to
}

func (s *scenario) script(f scripted) { s.steer(http.MethodPost, "/faults", f) }

// heal removes all faults.
func (s *scenario) heal() { s.steer(http.MethodDelete, "/faults", nil) }

// run runs a command beside the processes.
func (s *scenario) run(args ...string) string {
	s.t.Helper()
	got := command(s.t, "", append(args, "--data="+s.data, "--pages="+s.file)...)
	if got.code != cli.ExitOK {
		s.t.Fatalf("%v: exit code %d: %s%s", args, got.code, got.out, got.err)
	}
	return got.out
}

// post posts messages with the same text, each to another person, and returns their ids.
func (s *scenario) post(page testPage, text string, n int) (ids []string) {
	for range n {
		status, answer, err := post(s.client, s.ingress, page, message(scenarioPSID(), text), nil)
		var accepted struct{ ID string }
		if err == nil {
			err = json.Unmarshal([]byte(answer), &accepted)
		}
		if err != nil || status != http.StatusAccepted {
			s.t.Errorf("answer %d %s, error %v", status, answer, err)
		}
		ids = append(ids, accepted.ID)
	}
	return ids
}

var scenarioPersons struct {
	sync.Mutex
	n int
}

// scenarioPSID is another person each time.
func scenarioPSID() string {
	scenarioPersons.Lock()
	defer scenarioPersons.Unlock()
	scenarioPersons.n++
	return fmt.Sprintf("2003%012d", scenarioPersons.n)
}

// each does something for all pages at one time.
func (s *scenario) each(pages []testPage, do func(i int, page testPage)) {
	var doing sync.WaitGroup
	for i, page := range pages {
		doing.Go(func() { do(i, page) })
	}
	doing.Wait()
}

// happened is what the log says of a page.
type happened map[string][]map[string]any // by event

// ids are the messages that events are about.
func (h happened) ids(events ...string) map[string]int {
	ids := map[string]int{}
	for _, event := range events {
		for _, line := range h[event] {
			id, _ := line["id"].(string)
			first, _, _ := strings.Cut(id, "-") // a message that was replayed has its first id, a hyphen and a number
			ids[first]++
		}
	}
	return ids
}

// log returns what happened, by the names of the pages.
func (s *scenario) log() map[string]happened {
	all := map[string]happened{}
	for line := range strings.Lines(s.serve.log.String()) {
		var e map[string]any
		if json.Unmarshal([]byte(line), &e) != nil {
			continue
		}
		page, _ := e["page"].(string)
		event, _ := e["event"].(string)
		if all[page] == nil {
			all[page] = happened{}
		}
		all[page][event] = append(all[page][event], e)
	}
	return all
}

// await waits until all pages are as ok says.
func (s *scenario) await(what string, pages []testPage, ok func(i int, h happened) bool) map[string]happened {
	s.t.Helper()
	deadline := time.Now().Add(2 * time.Minute) // an attempt to reach Facebook may be a minute away
	for poll := time.NewTicker(100 * time.Millisecond); ; <-poll.C {
		all := s.log()
		var waiting []string
		for i, page := range pages {
			if !ok(i, all[page.name]) {
				waiting = append(waiting, page.name)
			}
		}
		if len(waiting) == 0 {
			return all
		}
		if time.Now().After(deadline) {
			for _, name := range waiting {
				s.t.Logf("%s: %s", name, all[name].summary())
			}
			s.t.Fatalf("waited in vain: %s, of %v", what, waiting)
		}
	}
}

func (h happened) summary() string {
	var b strings.Builder
	for event, lines := range h {
		fmt.Fprintf(&b, "%d %s, last %v\n", len(lines), event, lines[len(lines)-1])
	}
	return b.String()
}

// testOneBadMessage sends a message that is refused among good ones, on a page for each kind of refusal. The good ones go as if
// there was none: at their first attempt, and the page is not held.
func testOneBadMessage(t *testing.T) {
	inDoubt := scripted{"times": -1, "action": "reset", "accept": true}
	kinds := []struct {
		name  string
		fault scripted
		event string
		class any // of the bad message's last line; nil: none
	}{
		{"10, HTTP 403 (K2-01)", graph(403, 10, 0), "dead", "message"},
		{"200, HTTP 403", graph(403, 200, 0), "dead", "message"},
		{"200/33, HTTP 403 (K2-03)", graph(403, 200, 33), "dead", "message"},
		{"230, HTTP 403", graph(403, 230, 0), "dead", "message"},
		{"368", graph(400, 368, 0), "dead", "message"},
		{"368/1346003", graph(400, 368, 1346003), "dead", "message"},
		{"10 with an unknown subcode (K2-05)", graph(400, 10, 4711), "dead", "message"},
		{"200 with an unknown subcode (K2-05)", graph(403, 200, 4711), "dead", "message"},
		{"10/2534044 (K2-05)", graph(400, 10, 2534044), "dead", "window"},
		{"10/2018278", graph(400, 10, 2018278), "dead", "window"},
		{"3 (K2-12)", graph(400, 3, 0), "dead", "message"},
		{"100", graph(400, 100, 0), "dead", "message"},
		{"100/2018001", graph(400, 100, 2018001), "dead", "recipient"},
		{"100/2018276 (K2-16)", graph(400, 100, 2018276), "dead", "message"},
		{"100/2534001 (K2-17)", graph(400, 100, 2534001), "dead", "recipient"},
		{"551/1545041", graph(400, 551, 1545041), "dead", "recipient"},
		{"10/2018336 (K2-15)", graph(400, 10, 2018336), "dead", "message"},
		{"an unknown code", graph(400, 59999, 0), "dead", "message"},
		{"10/2018300", graph(400, 10, 2018300), "retry", "thread"},
		{"2, twice", graph(400, 2, 0).with("times", 2), "delivered", nil},
		{"1/1357046", graph(400, 1, 1357046).with("accept", true), "delivered", "delivered_anyway"},
		{"HTTP 200 without ids (K2-19)", scripted{"times": -1, "status": 200, "body": "{}", "accept": true}, "delivered", "delivered_anyway"},
		{"the answer is lost", inDoubt, "dead", "in_doubt"},
		{"HTTP 200 with HTML (K2-19)", scripted{"times": -1, "action": "html", "status": 200, "accept": true}, "dead", "in_doubt"},
	}
	pages := scenarioPages(len(kinds))
	s := newScenario(t, "20ms", pages)
	const before, after = 5, 25
	bad := make([]string, len(kinds))
	s.each(pages, func(i int, page testPage) {
		s.script(kinds[i].fault.with("page", page.id).with("text", "odd offer"))
		s.post(page, "hello", before)
		bad[i] = s.post(page, "an odd offer", 1)[0]
		s.post(page, "hello", after)
	})
	all := s.await("the good ones are delivered, and the bad one has ended", pages, func(i int, h happened) bool {
		good := h.ids("delivered")
		delete(good, bad[i])
		return len(good) == before+after && h.ids(kinds[i].event)[bad[i]] > 0
	})
	for i, page := range pages {
		t.Run(kinds[i].name, func(t *testing.T) {
			h := all[page.name]
			for _, line := range h["delivered"] {
				if line["id"] != bad[i] && line["attempt"] != 1.0 {
					t.Errorf("a good message was hindered: %v", line)
				}
			}
			for id := range h.ids("dead") {
				if id != bad[i] {
					t.Errorf("a good message is dead: %v", h["dead"])
				}
			}
			if held := h["held"]; len(held) > 0 {
				t.Errorf("the page was held: %v", held)
			}
			for _, line := range h[kinds[i].event] {
				if line["id"] == bad[i] && line["class"] != kinds[i].class {
					t.Errorf("class %v, want %v: %v", line["class"], kinds[i].class, line)
				}
			}
		})
	}
}
