package admin

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

// Kinds of needs. Scripts rely on them.
const (
	needHold         = "hold"          // Facebook or its answers stopped a page, and a person has to mend the cause
	needManual       = "hold_by_hand"  // somebody held a page
	needWorker       = "no_worker"     // messages wait, and no worker is alive
	needPage         = "page_missing"  // messages wait for a page that is in no page file
	needOldest       = "oldest"        // a message has waited for too long
	needQueue        = "queue_filling" // the queue is over 80 % full
	needStream       = "stream"        // a stream has no leader, or does not work for another reason
	needReplicas     = "replicas"      // a stream is short of replicas
	needDrift        = "drift"         // a stream has another setting than asked for
	needSubscription = "subscription"  // Facebook does not send a page's webhooks
	needReady        = "not_ready"     // a process cannot do its work, as its /readyz says
	needClock        = "clock"         // a process's clock is wrong
	needUnread       = "unread"        // something could not be read, and is not judged
)

const (
	// queueFilling is the part of the queue from which a person is needed, as the log's queue_filling.
	queueFilling = 0.8
	// maxClockOffset is how wrong a process's clock may be. Nothing breaks by it; people compare log lines, and certificates and
	// tokens are judged by it elsewhere.
	maxClockOffset = 5 * time.Second
)

// judge returns what a person has to do: what stops most first.
func (s *sight) judge() (needs []Need) {
	for _, rule := range []func() []Need{s.judgeStreams, s.judgeReading, s.judgeQueue, s.judgeReady, s.judgeWorkers, s.judgePages, s.judgeWebhooks, s.judgeClocks, s.judgeDrift} {
		needs = append(needs, rule()...)
	}
	if needs == nil {
		return []Need{}
	}
	return needs
}

func need(kind, page, format string, args ...any) Need {
	return Need{kind, page, fmt.Sprintf(format, args...)}
}

// judgeStreams has one sentence for all streams with the same remedy, since they mostly fail together.
func (s *sight) judgeStreams() (needs []Need) {
	var remedies, short []string
	broken, reason := map[string][]string{}, map[string]string{}
	for _, stream := range s.streams {
		switch {
		case stream.Fault != "":
			if broken[stream.Remedy] == nil {
				remedies, reason[stream.Remedy] = append(remedies, stream.Remedy), stream.Fault
			}
			broken[stream.Remedy] = append(broken[stream.Remedy], stream.Stream)
		case stream.Current < stream.Replicas:
			short = append(short, fmt.Sprintf("%s (%d of %d)", stream.Stream, stream.Current, stream.Replicas))
		}
	}
	for _, remedy := range remedies {
		needs = append(needs, need(needStream, "", "%s cannot be used (%s): %s.", enumerate(broken[remedy]), reason[remedy], remedy))
	}
	if short != nil {
		needs = append(needs, need(needReplicas, "", "Replicas are missing of %s: start the missing NATS servers, or wait until they have caught up.", enumerate(short)))
	}
	return needs
}

// judgeReading tells what could not be read, unless a stream that does not work explains it.
func (s *sight) judgeReading() (needs []Need) {
	if s.hasFault() {
		return nil
	}
	for _, part := range s.unread {
		needs = append(needs, need(needUnread, "", "Status of %s is not known: %s; run \"brazier status\" again, and see the logs of the NATS servers.",
			part.what, printable(part.err.Error())))
	}
	return needs
}

func (s *sight) hasFault() bool {
	return slices.ContainsFunc(s.streams, func(stream queue.StreamState) bool { return stream.Fault != "" })
}

// judgeReady tells which processes cannot do their work, one sentence for each reason, unless a stream that does not work explains it.
func (s *sight) judgeReady() (needs []Need) {
	if s.hasFault() {
		return nil
	}
	var reasons []string
	who := map[string][]string{}
	for _, p := range s.alive {
		if p.Stopped || p.Unready == "" {
			continue
		}
		if who[p.Unready] == nil {
			reasons = append(reasons, p.Unready)
		}
		who[p.Unready] = append(who[p.Unready], fmt.Sprintf("the %s on %s", printable(p.Role), printable(p.Name)))
	}
	for _, reason := range reasons {
		needs = append(needs, need(needReady, "", "Not ready to work: %s (%s).", enumerate(who[reason]), printable(reason)))
	}
	return needs
}

func (s *sight) judgeQueue() (needs []Need) {
	for _, stream := range s.streams {
		share := float64(stream.Bytes) / float64(stream.MaxBytes)
		if !queue.HoldsJobs(stream.Stream) || stream.MaxBytes <= 0 || share <= queueFilling {
			continue
		}
		what := "The queue"
		if stream.Stream != queue.StreamJobs {
			what = "The part of the queue in " + stream.Stream
		}
		needs = append(needs, need(needQueue, "", "%s is %.0f %% full (%s of %s), and refuses messages once it is full: see which page's messages wait, or raise --max-queue with \"brazier setup\".",
			what, 100*share, mebibytes(int64(stream.Bytes)), mebibytes(stream.MaxBytes)))
	}
	return needs
}

// hasNoWorker reports whether it is known that nobody works.
func (s *sight) hasNoWorker() bool {
	return s.aliveRead && !s.fetched && !slices.ContainsFunc(s.alive, func(p queue.AliveProcess) bool { return p.Works() && !p.Stopped })
}

func (s *sight) judgeWorkers() []Need {
	var pending uint64
	for _, p := range s.pages {
		pending += p.Pending
	}
	if pending == 0 || !s.hasNoWorker() {
		return nil
	}
	start := "brazier worker"
	if s.embedded {
		start = "brazier serve"
	}
	return []Need{need(needWorker, "", "%d message(s) wait, and no worker is alive: start \"%s\", or see in its log why it does not reach NATS.", pending, start)}
}

func (s *sight) judgePages() (needs []Need) {
	for i := range s.pages {
		p := &s.pages[i]
		switch n, found := s.judgePage(p); {
		case found:
			needs = append(needs, n)
		case s.oldest > 0 && p.OldestAge != nil && time.Duration(*p.OldestAge)*time.Second > s.oldest && !s.hasNoWorker():
			needs = append(needs, s.tooOld(p))
		}
	}
	return needs
}

// judgePage tells of what stops a page.
func (s *sight) judgePage(p *StatusPage) (Need, bool) {
	name := printable(p.Page.Page)
	switch {
	case p.isHeld():
		return judgeHold(p, name)
	case p.Pending == 0:
	case len(s.names) > 0 && !p.InFile:
		return need(needPage, name, "%d message(s) wait for page %s, which is not in %s: put the page back into the page file of all processes, or they expire.",
			p.Pending, name, printable(s.file)), true
	case !s.hasNoWorker() && s.nobodyHas(p.ID):
		return need(needPage, name, "%d message(s) wait for page %s, which is in no worker's page file: give the workers a page file that has it, or they expire.",
			p.Pending, name), true
	}
	return Need{}, false
}

// nobodyHas reports whether no worker has a page, if all workers say which they have.
func (s *sight) nobodyHas(page string) bool {
	workers := 0
	for _, p := range s.alive {
		if !p.Works() || p.Stopped {
			continue
		}
		workers++
		if len(p.PageIDs) != p.Pages || slices.Contains(p.PageIDs, page) {
			return false
		}
	}
	return workers > 0
}

// judgeHold tells of holds that do not end without a person. Throttling ends by itself.
func judgeHold(p *StatusPage, name string) (Need, bool) {
	why := "class " + p.Class
	if p.Code != 0 {
		why += ", code " + codes(p.Code, p.Subcode)
	}
	if p.Reason != "" {
		why += ": " + strings.TrimSuffix(shorten(printable(p.Reason), 120), ".")
	}
	since := seconds3339(*p.Since)
	switch p.Class {
	case string(sendapi.ClassThrottle), string(sendapi.ClassThrottleApp), string(sendapi.ClassTransient):
		return Need{}, false
	case classManual:
		by, until := "by hand", ""
		if p.By != "" {
			by += " by " + shorten(printable(p.By), 60)
		}
		if p.Until != nil {
			until = " until " + seconds3339(*p.Until)
		}
		return need(needManual, name, "Page %s is held %s since %s%s (%s): \"brazier pages resume %s\" ends the hold.", name, by, since, until,
			shorten(printable(cmp.Or(p.Reason, "no reason given")), 120), name), true
	case string(sendapi.ClassAuth):
		return need(needHold, name, "Page %s is held since %s, since Facebook refuses its token (%s): put a new page access token into its token_file, which workers use within 2 s.",
			name, since, why), true
	}
	return need(needHold, name, "Page %s is held since %s (%s): mend the cause; workers try one message now and then, and \"brazier pages resume %s\" tries at once.",
		name, since, why, name), true
}

func (s *sight) tooOld(p *StatusPage) Need {
	name, remedy := printable(p.Page.Page), "see the worker's log for the page, and whether its rate is enough"
	if p.isHeld() {
		remedy = "Facebook throttles it, so lower its rate"
	}
	return need(needOldest, name, "The oldest message for page %s has waited for %s, longer than %s (--oldest): %s.", name, approximately(*p.OldestAge*1000), s.oldest, remedy)
}

func (s *sight) judgeWebhooks() (needs []Need) {
	for _, l := range s.lost {
		name := printable(l.Page)
		needs = append(needs, need(needSubscription, name, "Facebook does not send webhooks of page %s (%s): find out why they failed, then run \"brazier webhook subscribe %s\".",
			name, printable(strings.Join(l.Missing, ", ")), name))
	}
	return needs
}

func (s *sight) judgeClocks() (needs []Need) {
	for _, p := range s.alive {
		if p.Stopped || math.Abs(p.ServerAhead) <= maxClockOffset.Seconds() {
			continue
		}
		direction := "behind"
		if p.ServerAhead < 0 {
			direction = "ahead of"
		}
		needs = append(needs, need(needClock, "", "The clock of the %s on %s is %.1f s %s the NATS server's: set it by NTP.", printable(p.Role), printable(p.Name),
			math.Abs(p.ServerAhead), direction))
	}
	return needs
}

func (s *sight) judgeDrift() (needs []Need) {
	for _, d := range s.drift {
		needs = append(needs, need(needDrift, "", "%s: %s is %s, not %s; \"brazier setup\" changes it.", d.Stream, d.Setting, d.Have, d.Want))
	}
	return needs
}
