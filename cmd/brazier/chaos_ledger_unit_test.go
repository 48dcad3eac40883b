package main

import (
	"testing"
	"time"

	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// A message that was delivered twice is explained by its worker's end or by a cut of its call, and by nothing else.
func TestLedger(t *testing.T) {
	begin := time.Now()
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	call := func(ms int, mid string) sandbox.Call { return sandbox.Call{At: at(ms), Accepted: true, MessageID: mid} }
	line := func(ms int, event, mid string) logLine { return logLine{at: at(ms), event: event, mid: mid} }
	twice := []sandbox.Call{call(0, "m1"), call(40_000, "m2")}
	doubted := []logLine{line(39_990, "in_doubt", ""), line(40_100, "delivered", "m2")}
	late := []sandbox.Call{call(40_000, "m2"), call(60_000, "m3")}
	tests := []struct {
		name                                string
		calls                               []sandbox.Call
		lines                               []logLine
		fault                               fault
		duplicates, notInDoubt, unexplained int
	}{
		{"once", twice[:1], []logLine{line(100, "delivered", "m1")}, fault{hits: hitCalls, from: at(50), to: at(60)}, 0, 0, 0},
		{"its worker was killed", twice, doubted, fault{hits: hitCalls, from: at(50), to: at(60)}, 1, 0, 0},
		{"its worker was killed while the call arrived", twice, doubted, fault{hits: hitCalls, from: at(-20), to: at(-10)}, 1, 0, 0},
		{"its worker was killed and no process logged so", twice, doubted[1:], fault{hits: hitCalls, from: at(50), to: at(60)}, 1, 1, 0},
		{"a worker was killed long before", twice, doubted, fault{hits: hitCalls, from: at(-5000), to: at(-4990)}, 1, 0, 1},
		{"a worker was killed after it was sent again", twice, doubted, fault{hits: hitCalls, from: at(40_050), to: at(40_060)}, 1, 0, 1},
		{"a NATS server was killed", twice, doubted, fault{hits: hitTime, from: at(50), to: at(9000)}, 1, 0, 1},
		{"it was settled, and then a worker killed", twice, append([]logLine{line(100, "delivered", "m1")}, doubted...),
			fault{hits: hitCalls, from: at(200), to: at(210)}, 1, 0, 1},
		{"it was settled just before a worker was killed", twice, append([]logLine{line(55, "delivered", "m1")}, doubted...),
			fault{hits: hitCalls, from: at(50), to: at(60)}, 1, 0, 1},
		{"its answer was cut off", []sandbox.Call{call(0, "m1"), call(2000, "m2")},
			[]logLine{line(60, "in_doubt", ""), line(2100, "delivered", "m2")}, fault{hits: hitCalls, from: at(50), to: at(51)}, 1, 0, 0},
		{"its call was cut off and arrived late", late, doubted, fault{hits: hitCalls, late: true, from: at(0), to: at(500)}, 1, 0, 0},
		{"its call was cut off for good, and another made", late, doubted, fault{hits: hitCalls, from: at(0), to: at(500)}, 1, 0, 1},
		{"it was settled twice, after a partition", late, append([]logLine{line(60_100, "delivered", "m3")}, doubted...),
			fault{hits: hitCalls, late: true, from: at(0), to: at(500)}, 1, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := &ledger{faults: []fault{tt.fault}, accounts: []account{{
				posted: &posted{id: "JOB1", answers: []answered{{at: at(-40_000), status: 202}}}, calls: tt.calls, lines: tt.lines,
			}}}
			f := l.sum(tt.name)
			if f.accepted != 1 || f.lost != 0 || f.duplicates != tt.duplicates || f.notInDoubt != tt.notInDoubt || f.unexplained != tt.unexplained {
				t.Errorf("accepted %d, lost %d, duplicates %d, not in doubt %d, unexplained %d\n%s",
					f.accepted, f.lost, f.duplicates, f.notInDoubt, f.unexplained, f.evidence)
			}
		})
	}
}
