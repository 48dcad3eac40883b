package main

import (
	"strings"
	"testing"
)

// wrongSettings are what every message of a page is answered where a token, a version, an app or a proxy is wrong.
var wrongSettings = []struct {
	name  string
	fault scripted
	class string // of the hold
	dead  int    // messages at most, as nobody knows what the code says
}{
	{"101 (K2-10)", graph(400, 101, 0), "page", 0},
	{"104 (K2-11)", graph(400, 104, 0), "auth", 0},
	{"2500 (K2-07, K2-08)", graph(400, 2500, 0), "page", 0},
	{"GraphMethodException 100 (K2-08)", graph(400, 100, 0).with("type", "GraphMethodException"), "page", 0},
	{"GraphMethodException 100/33 (K2-08)", graph(400, 100, 33).with("type", "GraphMethodException"), "page", 0},
	{"190 (K2-21)", graph(400, 190, 490), "auth", 0},
	{"200 (K2-13)", graph(403, 200, 0), "page", 0},
	{"210 (K2-14)", graph(400, 210, 0), "page", 0},
	{"10 (K2-01)", graph(403, 10, 0), "page", 0},
	{"3 (K2-12)", graph(400, 3, 0), "page", 10},
	{"an unknown code", graph(400, 59999, 0), "page", 10},
	{"a proxy says 403 (K2-22)", scripted{"times": -1, "action": "html", "status": 403}, "page", 0},
	{"a proxy says 404", scripted{"times": -1, "action": "html", "status": 404}, "page", 0},
}

func wrongPages() []testPage { return scenarioPages(len(wrongSettings)) }

// testWrongSetting refuses every message of a page, for each wrong setting. The page is held with one line, and hardly a message is
// dead. Somebody resumes it too soon, and the same happens again. When the setting is mended and the page resumed, all others
// are delivered.
func testWrongSetting(t *testing.T) {
	pages := wrongPages()
	s := newScenario(t, "300ms", pages) // a call takes long enough for many to be under way
	const messages = 60
	s.each(pages, func(i int, page testPage) {
		s.script(wrongSettings[i].fault.with("page", page.id))
		s.post(page, "hello", messages)
	})
	all := s.await("the page is held", pages, func(_ int, h happened) bool { return len(h["held"]) > 0 })
	for i, page := range pages {
		dead := all[page.name].ids("dead")
		if len(dead) > wrongSettings[i].dead {
			t.Errorf("%s: %d messages are dead, want at most %d", wrongSettings[i].name, len(dead), wrongSettings[i].dead)
		}
		if len(dead) > 0 {
			out := s.run("deadletters", "replay", "--since-hold", "--page="+page.id, "--yes")
			if !strings.Contains(out, "Replayed ") || !strings.Contains(out, ", failed 0") {
				t.Errorf("%s: replay says %s", wrongSettings[i].name, out)
			}
		}
		s.run("pages", "resume", page.id)
	}
	s.await("the page is held again", pages, func(_ int, h happened) bool { return len(h["held"]) > 1 })
	s.heal()
	for _, page := range pages {
		s.run("pages", "resume", page.id)
	}
	all = s.await("all others are delivered", pages, func(_ int, h happened) bool {
		return len(h.ids("delivered", "dead"))+h.requeued() == messages
	})
	for i, page := range pages {
		t.Run(wrongSettings[i].name, func(t *testing.T) {
			h := all[page.name]
			// On a slow machine probes are refused in between.
			if held := h["held"]; len(held) < 2 || len(held) > 2+len(h["probing"]) || held[0]["class"] != wrongSettings[i].class {
				t.Errorf("held lines, want one of class %s each time, and %d probes: %v", wrongSettings[i].class, len(h["probing"]), held)
			}
			if dead := h["dead"]; len(dead) > 2*wrongSettings[i].dead {
				t.Errorf("%d messages are dead, want at most %d each time: %v", len(dead), wrongSettings[i].dead, dead[0])
			}
		})
	}
	for _, page := range pages { // the last of the first row may have died after they were replayed
		if len(all[page.name]["dead"]) > 0 {
			s.run("deadletters", "replay", "--page="+page.id, "--yes")
		}
	}
	s.await("what was dead is delivered", pages, func(_ int, h happened) bool {
		return len(h.ids("delivered"))+h.requeued() == messages
	})
}

// testWrongSettingMended mends each setting without telling anybody: a probe finds out.
func testWrongSettingMended(t *testing.T) {
	pages := wrongPages()
	s := newScenario(t, "300ms", pages, "--probe-every=3s")
	const messages = 60
	s.each(pages, func(i int, page testPage) {
		s.script(wrongSettings[i].fault.with("page", page.id))
		s.post(page, "hello", messages)
	})
	s.await("the page is held, and a probe fails", pages, func(_ int, h happened) bool { return len(h["held"]) > 1 })
	s.heal()
	all := s.await("all others are delivered", pages, func(_ int, h happened) bool {
		return len(h["resumed"]) > 0 && len(h.ids("delivered", "dead"))+h.requeued() == messages
	})
	for i, page := range pages {
		if dead := all[page.name].ids("dead"); len(dead) > wrongSettings[i].dead {
			t.Errorf("%s: %d messages are dead, want at most %d: %v", wrongSettings[i].name, len(dead), wrongSettings[i].dead, all[page.name]["dead"][0])
		}
	}
}

// testBadMessagesInFront sends many messages that are refused before good ones. The page may be held for them at first; then the
// good ones are delivered, and the bad ones die as they come back, which for those that were refused most often is in some minutes.
func testBadMessagesInFront(t *testing.T) {
	kinds := []scripted{graph(403, 10, 0), graph(403, 200, 0), graph(403, 230, 0), graph(400, 368, 0), graph(400, 100, 0), graph(400, 59999, 0), graph(400, 2022, 0)}
	pages := scenarioPages(len(kinds))
	s := newScenario(t, "300ms", pages, "--probe-every=1s")
	const bad, good = 12, 40
	ofBad := make([]map[string]bool, len(kinds))
	s.each(pages, func(i int, page testPage) {
		s.script(kinds[i].with("page", page.id).with("text", "odd offer"))
		ofBad[i] = map[string]bool{}
		for _, id := range s.post(page, "an odd offer", bad) {
			ofBad[i][id] = true
		}
		s.post(page, "hello", good)
	})
	all := s.await("the good ones are delivered, and most of the bad ones dead", pages, func(_ int, h happened) bool {
		return len(h.ids("delivered")) == good && len(h.ids("dead")) >= bad/2
	})
	for i, page := range pages {
		for _, line := range all[page.name]["dead"] {
			if id, _ := line["id"].(string); !ofBad[i][id] || line["class"] != "message" {
				t.Errorf("code %v: a good message is dead, or a bad one not of class message: %v", kinds[i]["code"], line)
			}
		}
		t.Logf("code %v: held %d times", kinds[i]["code"], len(all[page.name]["held"]))
	}
}

// requeued is how many messages were requeued for some seconds, and are neither delivered nor dead yet.
func (h happened) requeued() (n int) {
	delivered, dead := h.ids("delivered"), h.ids("dead")
	for id := range h.ids("retry") {
		if delivered[id]+dead[id] == 0 {
			n++
		}
	}
	return n
}
