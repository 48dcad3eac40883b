package main

import (
	"net/http"
	"testing"
	"time"
)

// hits is how many calls the faults of the sandbox struck.
func (s *scenario) hits() (n int) {
	var faults []struct{ Hits int }
	getJSON(s.t, s.control+"/faults", &faults)
	for _, f := range faults {
		n += f.Hits
	}
	return n
}

// copies is how many copies of a message each person of a page got.
func (s *scenario) copies(page testPage) map[string]int {
	var calls []struct {
		Recipient string
		Accepted  bool
	}
	getJSON(s.t, s.control+"/calls?limit=100000&page="+page.id, &calls)
	copies := map[string]int{}
	for _, c := range calls {
		if c.Accepted {
			copies[c.Recipient]++
		}
	}
	return copies
}

// testFacebookAway takes Facebook away from a process for some ten seconds, in which it tries to reach it a few times; an hour would
// be the same with more of them. Nothing dies, two lines tell of it, and all is delivered after. Connections are refused at first,
// or calls meet the fault from the start. With doubt nobody knows whether a message was sent.
func testFacebookAway(refused bool, fault scripted, doubt bool) func(*testing.T) {
	return func(t *testing.T) {
		pages := scenarioPages(2)
		s := newScenario(t, "20ms", pages)
		const before, during = 5, 60
		s.each(pages, func(_ int, page testPage) { s.post(page, "hello", before) })
		s.await("Facebook is there", pages, func(_ int, h happened) bool { return len(h.ids("delivered")) == before })
		refuse := func(yes bool) { s.steer(http.MethodPut, "/connections", map[string]bool{"refuse": yes}) }
		if refused {
			refuse(true)
		} else {
			s.script(fault)
		}
		s.each(pages, func(_ int, page testPage) { s.post(page, "hello", during) })
		s.serve.log.await(t, "graph_down")
		attempts := 2 // to reach it, the first after 2 s
		if refused {
			passes(t, 3*time.Second)
			s.script(fault)
			refuse(false)
			attempts = 1
		} else {
			passes(t, time.Second) // for what is under way
		}
		tried := s.hits()
		eventually(t, "it was tried", func() bool { return s.hits() >= tried+attempts })
		s.heal()
		all := s.await("all is delivered", pages, func(_ int, h happened) bool { return len(h.ids("delivered")) == before+during })
		down, up := s.serve.log.events("graph_down"), s.serve.log.events("graph_up")
		if len(down) != 1 || len(up) != 1 {
			t.Fatalf("%d lines graph_down, %d graph_up", len(down), len(up))
		}
		if down[0]["level"] != "error" || down[0]["cause"] == "" || down[0]["host"] == "" || up[0]["for_s"].(float64) < 2 {
			t.Errorf("lines %v and %v", down[0], up[0])
		}
		t.Logf("away for %v s", up[0]["for_s"])
		counted, copies := 0, 0
		for _, page := range pages {
			h := all[page.name]
			if len(h["dead"])+len(h["held"]) > 0 {
				t.Errorf("%s: %s", page.name, h.summary())
			}
			for _, line := range h["delivered"] {
				if line["attempt"] != 1.0 {
					counted++
				}
			}
			for person, n := range s.copies(page) {
				if copies += n - 1; n > 2 {
					t.Errorf("%s got %d copies", person, n)
				}
			}
		}
		if counted > 4 && !doubt { // before it counted as away
			t.Errorf("%d messages were counted as tried", counted)
		}
		if copies > 0 && !doubt {
			t.Errorf("%d messages were sent twice", copies)
		}
	}
}

// testEveryAnswerLost delivers messages whose answers are lost. Their page stops after ten, and nobody gets more than two copies.
func testEveryAnswerLost(t *testing.T) {
	ways := []scripted{
		{"times": -1, "action": "close", "accept": true},
		{"times": -1, "action": "reset", "accept": true},
		{"times": -1, "action": "cut_body", "accept": true},
		{"times": -1, "action": "html", "status": 200, "accept": true},
	}
	const messages, inFlight, inRow = 40, 5, 10
	pages := scenarioPages(len(ways))
	for i := range pages {
		pages[i].extra = "    max_in_flight: 5\n"
	}
	s := newScenario(t, "20ms", pages)
	s.each(pages, func(i int, page testPage) {
		s.script(ways[i].with("page", page.id))
		s.post(page, "hello", messages)
	})
	s.await("the page stops", pages, func(_ int, h happened) bool { return len(h["held"]) == 1 })
	for i, page := range pages {
		if n := len(s.copies(page)); n < inRow || n > inRow+inFlight {
			t.Errorf("%v: the page stopped after %d messages, with at most %d under way", ways[i], n, inFlight)
		}
	}
	resume := func() {
		for _, page := range pages {
			s.run("pages", "resume", page.id)
		}
	}
	for held, dead := 1, 0; dead < len(pages); held++ { // until messages of all pages were sent for the second time
		resume()
		all := s.await("the page stops again", pages, func(_ int, h happened) bool { return len(h["held"]) > held })
		dead = 0
		for _, h := range all {
			dead += min(len(h["dead"]), 1)
		}
	}
	s.heal()
	resume()
	all := s.await("all others are delivered", pages, func(_ int, h happened) bool {
		return len(h.ids("delivered"))+len(h.ids("dead")) == messages
	})
	for i, page := range pages {
		h := all[page.name]
		for _, line := range h["dead"] {
			if line["class"] != "in_doubt" || line["attempts"] != 2.0 {
				t.Errorf("%v: %v", ways[i], line)
			}
		}
		copies := s.copies(page)
		for person, n := range copies {
			if n > 2 {
				t.Errorf("%v: %s got %d copies", ways[i], person, n)
			}
		}
		if len(copies) != messages {
			t.Errorf("%v: %d of %d persons got the message", ways[i], len(copies), messages)
		}
		t.Logf("%v: stopped %d times, %d dead", ways[i], len(h["held"]), len(h["dead"]))
	}
}
