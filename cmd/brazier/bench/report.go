package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
)

// Figures is the outcome of a run, as --json prints it. Scripts rely on the names.
type Figures struct {
	Version     string  `json:"version"`
	CPUs        int     `json:"cpus"`
	Sync        string  `json:"sync,omitempty"` // empty: of an ingress that others run
	Messages    int     `json:"messages"`       // posted
	Bytes       int     `json:"bytes"`          // of a body
	Pages       int     `json:"pages"`
	Connections int     `json:"connections"`
	Rate        float64 `json:"rate"`    // asked for; 0 is full speed
	Seconds     float64 `json:"seconds"` // of posting

	Accepted          int64   `json:"accepted"`
	AcceptedPerSecond float64 `json:"accepted_per_s"`
	Duplicate         int64   `json:"duplicate"`
	Refused           int64   `json:"refused"`
	Unanswered        int64   `json:"unanswered"`
	Broken            string  `json:"unanswered_reason,omitempty"` // of the first
	// Latency is of all answers, from when each request should have been sent.
	Latency LatencyFigures `json:"latency_ms"`
	// Arrived is what the sandbox says. Nil: it was not asked.
	Arrived   *ArrivedFigures  `json:"arrived"`
	Processes []ProcessFigures `json:"processes"`
}

// LatencyFigures are quantiles of the time from when a request was due to its answer, in milliseconds.
type LatencyFigures struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// ArrivedFigures are what the sandbox has, compared with what was accepted.
type ArrivedFigures struct {
	Delivered int     `json:"delivered"`       // distinct messages
	PerSecond float64 `json:"delivered_per_s"` // from the first post to the last arrival
	Twice     int     `json:"twice"`           // arrived more than once
	Missing   int     `json:"missing"`         // accepted, and did not arrive
}

// ProcessFigures are of one process while messages were posted and delivered. Nil where the system does not say.
type ProcessFigures struct {
	Name          string   `json:"name"`
	CPU           *float64 `json:"cpu_s"`
	CPUPerMillion *float64 `json:"cpu_s_per_million"` // accepted messages
	Peak          *int64   `json:"peak_memory_bytes"` // since the process began
}

func (b *benchmark) figures(before, after []processUsage) *Figures {
	l := b.load
	f := &Figures{
		Version: cli.Version(), CPUs: runtime.NumCPU(), Bytes: l.requests[0].bytes, Pages: len(l.requests), Connections: l.Connections, Rate: l.Rate,
		Accepted: l.accepted.Load(), Duplicate: l.duplicate.Load(), Refused: l.refused.Load(), Unanswered: l.unanswered.Load(),
	}
	if why := l.broken.Load(); why != nil {
		f.Broken = (*why).Error()
	}
	if len(b.children) > 0 {
		f.Sync = b.Sync
	}
	var answered []time.Duration
	for n, outcome := range l.outcomes {
		if outcome == notPosted {
			continue
		}
		f.Messages++
		if outcome != wasUnanswered {
			answered = append(answered, l.latencies[n])
		}
	}
	f.Seconds = l.ended.Sub(l.start).Seconds()
	f.AcceptedPerSecond = float64(f.Accepted) / f.Seconds
	f.Latency = quantiles(answered)
	for i, u := range after {
		p := ProcessFigures{Name: u.name}
		if u.known && before[i].known {
			cpu := (u.cpu - before[i].cpu).Seconds()
			p.CPU, p.Peak = &cpu, &u.peak
			if f.Accepted > 0 {
				each := cpu / float64(f.Accepted) * 1e6
				p.CPUPerMillion = &each
			}
		}
		f.Processes = append(f.Processes, p)
	}
	return f
}

func quantiles(all []time.Duration) LatencyFigures {
	if len(all) == 0 {
		return LatencyFigures{}
	}
	slices.Sort(all)
	at := func(q float64) float64 {
		return float64(all[min(int(q*float64(len(all))), len(all)-1)].Microseconds()) / 1000
	}
	return LatencyFigures{P50: at(.5), P90: at(.9), P99: at(.99), P999: at(.999), Max: at(1)}
}

func (f *Figures) print(w io.Writer, asJSON bool) error {
	if asJSON {
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		return out.Encode(f)
	}
	speed, flushed := "at full speed", ""
	if f.Rate > 0 {
		speed = fmt.Sprintf("at %g a second", f.Rate)
	}
	if f.Sync != "" {
		flushed = ", --sync " + f.Sync
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d messages of %d bytes for %d pages over %d connections, %s%s; %d CPUs\n\n",
		f.Messages, f.Bytes, f.Pages, f.Connections, speed, flushed, f.CPUs)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  accepted\t%.0f/s\t%d in %.1f s\n", f.AcceptedPerSecond, f.Accepted, f.Seconds)
	fmt.Fprintf(t, "  refused\t%d\t\n", f.Refused)
	if f.Duplicate > 0 {
		fmt.Fprintf(t, "  duplicate\t%d\t\n", f.Duplicate)
	}
	if f.Unanswered > 0 {
		fmt.Fprintf(t, "  unanswered\t%d\tthe first: %s\n", f.Unanswered, f.Broken)
	}
	if a := f.Arrived; a == nil {
		fmt.Fprintf(t, "  delivered\tunknown\t--sandbox would let it be counted\n")
	} else {
		fmt.Fprintf(t, "  delivered\t%.0f/s\t%d, of them %d more than once; %d missing\n", a.PerSecond, a.Delivered, a.Twice, a.Missing)
	}
	_ = t.Flush() // into memory
	l := f.Latency
	fmt.Fprintf(&b, "\n  answered within  p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, at most %.1f ms\n\n", l.P50, l.P90, l.P99, l.P999, l.Max)
	fmt.Fprintf(t, "  process\tCPU s\tper million\tpeak memory\n")
	for _, p := range f.Processes {
		if p.CPU == nil || p.CPUPerMillion == nil {
			fmt.Fprintf(t, "  %s\tunknown\t\t\n", p.Name)
			continue
		}
		fmt.Fprintf(t, "  %s\t%.1f\t%.0f\t%d MB\n", p.Name, *p.CPU, *p.CPUPerMillion, *p.Peak>>20)
	}
	_ = t.Flush()
	_, err := io.WriteString(w, b.String())
	return err
}
