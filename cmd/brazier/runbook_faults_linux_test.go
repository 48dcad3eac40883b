package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

var produceFaults = flag.Bool("runbook", false, "run TestRunbookFaults, which takes some minutes, prometheus of Debian's package of that name, and the right to mount a file system")

// drills produce the faults of deploy/RUNBOOK.md, by the titles of its sections, the longest first. Each shows the section's lines,
// alerts and sentences, and what its "Over" names.
var drills = []struct {
	section string
	run     func(*drill)
}{
	{"Facebook is slow", drillFacebookSlow},
	{"NATS is away, or lost a node", drillNATSAway},
	{"Nobody sends a page's messages", drillNobodySends},
	{"NATS refuses the password or a right", drillNATSRefuses},
	{"The queue is full", drillQueueFull},
	{"The disk is full", drillDiskFull},
	{"Braze takes no updates", drillBraze},
	{"Facebook sends no webhooks", drillWebhooks},
	{"A clock is wrong", drillClock},
	{"Links have wrong signatures", drillForgedLinks},
	{"The certificate ends", drillCertificate},
	{"The page file is broken", drillPageFile},
	{"Braze posts with a wrong key", drillWrongKey},
	{"Braze posts without PSIDs", drillNoPSIDs},
	{"The page token is dead", drillDeadToken},
	{"The page may not send", drillRestriction},
	{"Facebook throttles a page or an app", drillThrottle},
	{"Facebook is away", drillFacebookAway},
	{"Facebook's answers are lost", drillAnswersLost},
	{"A poison message, or a wrong template", drillPoison},
}

// drillsAtOnce is how many faults there are at one time: each has some processes, which mostly wait.
const drillsAtOnce = 4

// TestRunbookFaults produces each fault of the runbook with real processes, and finds what the runbook has of it: log lines of the same
// event, level and keys, alerts whose expressions hold on the scraped metrics and did not before, sentences of "brazier status".
func TestRunbookFaults(t *testing.T) {
	if !*produceFaults {
		return // .ci/run asks for it
	}
	sections := readRunbook(t)
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, drillsAtOnce)
	for _, d := range drills {
		section, ok := sections[d.section]
		if !ok {
			continue // TestRunbookDrills says so
		}
		slots <- struct{}{} // in this order
		running.Go(func() {
			defer func() { <-slots }()
			t.Run(d.section, func(t *testing.T) { newDrill(t, section).do(d.run) })
		})
	}
}

// Each section of the runbook has a drill and the lines of its events, and each drill a section.
func TestRunbookDrills(t *testing.T) {
	t.Parallel()
	sections := readRunbook(t)
	for _, d := range drills {
		if sections[d.section] == nil {
			t.Errorf("RUNBOOK.md has no section %q", d.section)
		}
		delete(sections, d.section)
	}
	for title := range sections {
		t.Errorf("nothing produces %q of RUNBOOK.md", title)
	}
}

// runbookSection is what RUNBOOK.md has of a fault.
type runbookSection struct {
	lines     []string // of the log, JSON
	sentences []string // of brazier status
	alerts    []string // that prometheus-rules.yaml has; others are the log's
	over      []string // events
}

// readRunbook reads the sections by their titles.
func readRunbook(t *testing.T) map[string]*runbookSection {
	t.Helper()
	runbook := read(t, "../../deploy/RUNBOOK.md")
	events := catalogueEvents(t)
	sections := map[string]*runbookSection{}
	for _, text := range strings.Split(runbook, "\n## ")[1:] {
		title, text, _ := strings.Cut(text, "\n")
		s := &runbookSection{}
		_, block, _ := strings.Cut(text, "\n```\n")
		block, _, _ = strings.Cut(block, "```\n")
		for line := range strings.Lines(block) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "{") {
				s.lines = append(s.lines, line)
			} else {
				s.sentences = append(s.sentences, line)
			}
		}
		_, over, _ := strings.Cut(text, "\nOver: ")
		over = regexp.MustCompile("no more `[a-z_]+`").ReplaceAllString(over, "")
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(over, -1) {
			if events[m[1]] {
				s.over = append(s.over, m[1])
			}
		}
		sections[title] = s
	}
	rules := read(t, "../../deploy/prometheus-rules.yaml")
	for line := range strings.Lines(runbook) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "](#") {
			continue
		}
		s := sections[regexp.MustCompile(`\[(.*)\]`).FindStringSubmatch(cells[1])[1]]
		for alert := range strings.SplitSeq(strings.TrimSpace(cells[3]), ", ") {
			if strings.Contains(rules, "alert: "+alert+"\n") {
				s.alerts = append(s.alerts, alert)
			}
		}
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[2], -1) {
			if events[m[1]] && !slices.ContainsFunc(s.lines, func(line string) bool { return strings.Contains(line, `"event":"`+m[1]+`"`) }) {
				t.Errorf("RUNBOOK.md shows no line %s in the section of %s", m[1], cells[1])
			}
		}
	}
	return sections
}

// catalogueEvents are the events of deploy/LOGS.md.
func catalogueEvents(t *testing.T) map[string]bool {
	t.Helper()
	events := map[string]bool{}
	for line := range strings.Lines(read(t, "../../deploy/LOGS.md")) {
		if cells := strings.Split(line, "|"); len(cells) > 4 && regexp.MustCompile("debug|info|warn|error").MatchString(cells[2]) {
			for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
				events[m[1]] = true
			}
		}
	}
	return events
}

// drill is a fault that is being produced.
type drill struct {
	t       *testing.T
	section *runbookSection
	*monitoring

	every time.Duration // between scrapes; default 1 s
	procs []*proc
	from  map[*proc]int // where the log was when the fault had been seen
	found map[string]bool
}

func newDrill(t *testing.T, section *runbookSection) *drill {
	return &drill{t: t, section: section, from: map[*proc]int{}, found: map[string]bool{}}
}

// do runs a drill, and compares what it has shown with the section.
func (d *drill) do(run func(*drill)) {
	began := time.Now()
	run(d)
	d.lines()
	for _, what := range slices.Concat(d.section.alerts, d.section.sentences, d.section.over) {
		if !d.found[what] {
			d.t.Errorf("RUNBOOK.md has %q, which was not looked for", what)
		}
	}
	for _, p := range d.procs {
		page := d.acme()
		keepsSecrets(d.t, p.log.String(), page.token, page.secret, page.key, appSecret, refSecret, brazeKey, "wrong-secret")
	}
	d.t.Logf("%.0f s", time.Since(began).Seconds())
}

// watch has Prometheus scrape processes, unless their ops listener is off, and their log searched.
func (d *drill) watch(procs ...*proc) {
	d.t.Helper()
	if d.monitoring == nil {
		d.monitoring = startMonitoring(d.t, cmp.Or(d.every, time.Second))
	}
	d.procs = append(d.procs, procs...)
	var addresses []string
	for _, p := range procs {
		addresses = append(addresses, p.log.await(d.t, "ops")["address"].(string))
	}
	d.scrape(addresses...)
}

// quiet fails the test if there is an alert before the fault, or brazier status with these flags says that a person is needed.
func (d *drill) quiet(status ...string) {
	d.t.Helper()
	if alerts := d.firing(); len(alerts) > 0 {
		d.t.Errorf("before the fault there are alerts: %v", alerts)
	}
	if status != nil {
		d.content(status...)
	}
}

// content fails the test if brazier status, with these flags, says that a person is needed.
func (d *drill) content(status ...string) {
	d.t.Helper()
	if got := command(d.t, "", append([]string{"status"}, status...)...); got.code != cli.ExitOK {
		d.t.Errorf("without a fault status ends with %d: %s%s", got.code, got.out, got.err)
	}
}

// alerts waits until alerts of the section fire, all of them unless some are named.
func (d *drill) alerts(names ...string) {
	d.t.Helper()
	if names == nil {
		names = d.section.alerts
	}
	for _, name := range names {
		expr, ok := d.rules[name]
		if !ok {
			d.t.Fatalf("no rule is called %s", name)
		}
		d.holds(name, expr)
	}
}

// holds waits until an alert's expression yields something.
func (d *drill) holds(name, expr string) {
	d.t.Helper()
	d.eventually(name+" fires: "+expr, func() bool { return len(d.query(expr)) > 0 })
	d.found[name] = true
}

// eventually is the test's, with the logs where it waits in vain.
func (d *drill) eventually(what string, ok func() bool) {
	d.t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for poll := time.NewTicker(100 * time.Millisecond); !ok(); <-poll.C {
		if time.Now().After(deadline) {
			for _, p := range d.procs {
				d.t.Log(p.log.tail())
			}
			d.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// variable is what differs from run to run in a sentence: times and numbers, Facebook's ids of calls, processes, and which of the
// streams of a NATS that is going away.
var variable = regexp.MustCompile(`(?:(?:KV_)?BRAZIER_[A-Z]+(?: \(\d of \d\))?(?:, | and )?)+|\d[\d.:TZ-]*|fbtrace_id [\w-]+|(?:worker|ingress|serve) on \S+`)

// constant is the rest of a sentence.
func constant(text string) string {
	return variable.ReplaceAllString(strings.TrimPrefix(text, "- "), "#")
}

// status waits until brazier status, with these flags, has the section's sentences that contain a text, and ends with exit code 1.
func (d *drill) status(containing string, flags ...string) {
	d.t.Helper()
	for _, want := range d.section.sentences {
		if !strings.Contains(want, containing) {
			continue
		}
		var got ended
		deadline := time.Now().Add(60 * time.Second)
		for poll := time.NewTicker(500 * time.Millisecond); ; <-poll.C {
			got = command(d.t, "", append([]string{"status"}, flags...)...)
			if got.code == cli.ExitFailed && slices.ContainsFunc(strings.Split(got.out, "\n"), func(line string) bool { return constant(line) == constant(want) }) {
				d.found[want] = true
				break
			}
			if time.Now().After(deadline) {
				d.t.Errorf("status does not say %q, but ends with %d:\n%s%s", want, got.code, got.out, got.err)
				break
			}
		}
	}
}

// lines waits until each line of the section is in a log, and compares the keys: all lines unless events are named.
func (d *drill) lines(events ...string) {
	d.t.Helper()
	for _, text := range d.section.lines {
		var want map[string]any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			d.t.Errorf("RUNBOOK.md: %v: %s", err, text)
			continue
		}
		if event, _ := want["event"].(string); events != nil && !slices.Contains(events, event) {
			continue
		}
		var seen []string
		alike := func(p *proc) bool {
			for line := range strings.Lines(p.log.String()) {
				var got map[string]any
				if json.Unmarshal([]byte(line), &got) != nil || got["event"] != want["event"] {
					continue
				}
				seen = append(seen, line)
				if got["level"] == want["level"] && got["class"] == want["class"] && got["cause"] == want["cause"] && got["what"] == want["what"] &&
					slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
					return true
				}
			}
			return false
		}
		deadline := time.Now().Add(30 * time.Second)
		for poll := time.NewTicker(100 * time.Millisecond); !slices.ContainsFunc(d.procs, alike); <-poll.C {
			if time.Now().After(deadline) {
				d.t.Errorf("no line is like this one of RUNBOOK.md:\n%s\nThose with the same event:\n%s", text, strings.Join(seen[max(0, len(seen)-5):], ""))
				break
			}
			seen = nil
		}
	}
}

// mended notes that what comes now in the logs tells that it is over.
func (d *drill) mended() {
	for _, p := range d.procs {
		d.from[p] = len(p.log.String())
	}
}

// over waits for the events by which it is over, since mended: the section's, unless some are named.
func (d *drill) over(events ...string) {
	d.t.Helper()
	if events == nil {
		events = d.section.over
	}
	for _, event := range events {
		d.eventually(event+" tells that it is over", func() bool {
			return slices.ContainsFunc(d.procs, func(p *proc) bool {
				return strings.Contains(p.log.String()[d.from[p]:], fmt.Sprintf("%q:%q", "event", event))
			})
		})
		d.found[event] = true
	}
}
