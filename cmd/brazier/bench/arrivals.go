package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// arrivals asks a sandbox what has reached whom.
type arrivals struct {
	control string
	client  *http.Client
	before  int // messages that it had taken already
}

func newArrivals(control string) *arrivals {
	return &arrivals{control: strings.TrimRight(control, "/"), client: &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}}
}

func (a *arrivals) close() { a.client.CloseIdleConnections() }

// begin takes note of what was there before.
func (a *arrivals) begin(ctx context.Context) (err error) {
	a.before = 0
	a.before, err = a.now(ctx)
	return err
}

// now returns how many messages have arrived since begin. What arrived twice counts once.
func (a *arrivals) now(ctx context.Context) (int, error) {
	var seen struct{ Accepted, Duplicates int }
	err := a.get(ctx, "/summary", func(body io.Reader) error { return json.NewDecoder(body).Decode(&seen) })
	return seen.Accepted - seen.Duplicates - a.before, err
}

func (a *arrivals) get(ctx context.Context, path string, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.control+path, nil)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.Header.Get("X-Sandbox") == "":
		return fmt.Errorf("%s is no sandbox's control address", a.control)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("ask the sandbox for %s: %s", path, resp.Status)
	}
	if err := read(resp.Body); err != nil {
		return fmt.Errorf("ask the sandbox for %s: %w", path, err)
	}
	return nil
}

// compare counts message by message what the load posted and what the sandbox has.
func (a *arrivals) compare(ctx context.Context, l *load) (*ArrivedFigures, error) {
	times := make([]uint8, len(l.outcomes)) // how often each arrived, up to 255
	run := l.requests[0].run.recipient()
	err := a.get(ctx, "/recipients", func(body io.Reader) error {
		lines := bufio.NewScanner(body)
		for lines.Scan() {
			number, ours := strings.CutPrefix(lines.Text(), run)
			if n, err := strconv.Atoi(number); ours && err == nil && n < len(times) && times[n] < 255 {
				times[n]++
			}
		}
		return lines.Err()
	})
	if err != nil {
		return nil, err
	}
	f := &ArrivedFigures{}
	for n, outcome := range l.outcomes {
		switch {
		case times[n] > 1:
			f.Twice++
			f.Delivered++
		case times[n] == 1:
			f.Delivered++
		case outcome == wasAccepted:
			f.Missing++
		}
	}
	return f, nil
}
