package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/cmd/brazier/admin"
	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/sendapi/sandbox"
)

// shownCampaign runs the command with --json, and returns what it says without the times.
func shownCampaign(t *testing.T, flags []string, args ...string) admin.Campaign {
	t.Helper()
	got := command(t, "", slices.Concat([]string{"campaign", "--json"}, flags, args)...)
	var v admin.Campaign
	if err := json.Unmarshal([]byte(got.out), &v); got.code != cli.ExitOK || err != nil {
		t.Fatalf("campaign %v: %+v, error %v", args, got, err)
	}
	v.P50, v.P99 = nil, nil
	return v
}

// What became of a campaign is shown beside a running serve, and after it has ended.
func TestCampaignCommand(t *testing.T) {
	t.Parallel()
	acme, nordwind := newTestPage("1029384756", "acme"), newTestPage("5647382910", "nordwind")
	fb, err := sandbox.New(sandbox.Config{Pages: []sandbox.Page{
		{ID: acme.id, Token: acme.token, AppSecret: acme.secret}, {ID: nordwind.id, Token: nordwind.token, AppSecret: nordwind.secret}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fb.Close() })
	dir, pages := t.TempDir(), "--pages="+writePages(t, acme, nordwind)
	flags := []string{"--data=" + dir, pages}
	r := startRole(t, "serve", "--listen=127.0.0.1:0", "--ops-listen=off", flags[0], pages, "--graph-url="+fb.URL(), "--log-format=json")
	at := r.log.await(t, "started")["address"].(string)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	sent := func(page testPage, psid string, headers ...string) {
		t.Helper()
		h := map[string]string{"X-Brazier-Campaign": "spring", "X-Brazier-Dispatch": "d1"}
		for i := 0; i < len(headers); i += 2 {
			h[headers[i]] = headers[i+1]
		}
		if status, answer, err := post(client, at, page, message(psid, "Hello"), h); err != nil || status != http.StatusAccepted {
			t.Fatalf("answer %d %s, error %v", status, answer, err)
		}
	}
	sent(acme, "2003004005006007", "Idempotency-Key", "k")
	sent(acme, "2003004005006007", "Idempotency-Key", "k")
	sent(acme, "2003004005006008", "X-Brazier-Dispatch", "d2")
	sent(nordwind, "2003004005006007")
	sent(acme, "9000000551000001") // cannot be reached
	eventually(t, "three messages delivered, one dead", func() bool {
		return len(r.log.events("delivered")) == 3 && len(r.log.events("dead")) == 1
	})

	failed := []admin.FailedClass{{Class: "recipient", Count: 1, Sentence: sendapi.ClassRecipient.Sentence()}}
	onAcme := admin.CampaignNumbers{Accepted: 3, Delivered: 2, Failed: 1, Duplicates: 1}
	onNordwind := admin.CampaignNumbers{Accepted: 1, Delivered: 1}
	all := onAcme
	all.Accepted, all.Delivered = 4, 3
	want := admin.Campaign{ID: "spring", CampaignNumbers: all, Classes: failed, Pages: []admin.CampaignPage{
		{Page: "acme", PageID: acme.id, CampaignNumbers: onAcme}, {Page: "nordwind", PageID: nordwind.id, CampaignNumbers: onNordwind}}}
	eventually(t, "all is counted", func() bool { // written once a second
		got := command(t, "", "campaign", "--json", flags[0], pages, "spring")
		return strings.Contains(got.out, `"accepted":4,"delivered":3,"failed":1,`) && strings.Contains(got.out, `"duplicates":1,`)
	})
	for _, args := range [][]string{{"spring"}, {"spring", "--since=0s"}, {"spring", "--since=7d"}} {
		if diff := cmp.Diff(want, shownCampaign(t, flags, args...)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", args, diff)
		}
	}
	one := shownCampaign(t, flags, "spring", "--dispatch=d2")
	if one.Accepted != 1 || one.Delivered != 1 || one.Failed != 0 || one.Dispatch != "d2" || len(one.Pages) != 1 || one.Others {
		t.Errorf("one dispatch: %+v", one)
	}
	text := command(t, "", "campaign", "spring", flags[0], pages)
	for _, shown := range []string{"accepted    4\n", "delivered   3 (75.0 %)", "failed      1 (25.0 %)", "waiting     0\n", "from accepted to delivered for half of the messages",
		"recipient", "they blocked the page", "nordwind"} {
		if text.code != cli.ExitOK || !strings.Contains(text.out, shown) {
			t.Errorf("%q is missing: %+v", shown, text)
		}
	}
	r.end()
	if diff := cmp.Diff(want, shownCampaign(t, flags, "spring")); diff != "" {
		t.Errorf("after serve has ended (-want +got):\n%s", diff)
	}
	// What is replayed waits, and has not failed.
	if got := command(t, "", append([]string{"deadletters", "replay", "--campaign=spring", "--yes"}, flags...)...); got.code != cli.ExitOK {
		t.Fatalf("replay: %+v", got)
	}
	if got := shownCampaign(t, flags, "spring"); got.Failed != 0 || got.Waiting != 1 || got.Replayed != 1 || len(got.Classes) != 0 {
		t.Errorf("after a replay: %+v", got)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"an unknown id":       {[]string{"autumn"}, cli.ExitFailed, `nothing was counted of campaign or canvas "autumn" in 30 days`},
		"an unknown dispatch": {[]string{"spring", "--dispatch=d9"}, cli.ExitFailed, `dispatch "d9" of campaign or canvas "spring"`},
		"a negative age":      {[]string{"spring", "--since=-1d"}, cli.ExitUsage, "--since: must not be negative"},
		"no age":              {[]string{"spring", "--since=soon"}, cli.ExitUsage, "must be a time such as 90s"},
	} {
		if got := command(t, "", slices.Concat([]string{"campaign"}, flags, c.args)...); got.code != c.code || !strings.Contains(got.err, c.says) || got.out != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// shownText is what a command has written so far.
type shownText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *shownText) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *shownText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// --watch waits for a campaign to begin, shows it as it goes on, and ends well when it is interrupted.
func TestCampaignWatch(t *testing.T) {
	t.Parallel()
	for _, json := range []bool{false, true} {
		t.Run(fmt.Sprintf("json %v", json), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			q := queuetest.On(t, queuetest.Server(t, dir))
			var shown, errs shownText
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			ended := make(chan int)
			go func() {
				args := []string{"campaign", "spring", "--watch", "--data=" + dir}
				if json {
					args = append(args, "--json")
				}
				ended <- execute(ctx, args, cli.Stdio{Out: &shown, Err: &errs})
			}()
			want := "accepted    2\n"
			if json {
				want = `"accepted":2,`
			} else {
				eventually(t, "it says that there is nothing", func() bool { return strings.Contains(shown.String(), "nothing was counted") })
			}
			for range 2 {
				j := &queue.Job{ID: queue.NewID(), Page: "1029384756", Lane: queue.Bulk, Accepted: time.Now(), Expire: time.Now().Add(time.Hour), Body: []byte("{}")}
				j.Tracking.Campaign = "spring"
				if _, err := q.Publish(t.Context(), j); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "it shows two messages", func() bool { return strings.Contains(shown.String(), want) })
			interrupt()
			if code := <-ended; code != cli.ExitOK || errs.String() != "" {
				t.Errorf("exit code %d, %s", code, errs.String())
			}
			if strings.Contains(shown.String(), "\x1b") {
				t.Errorf("control characters elsewhere than on a terminal: %q", shown.String())
			}
		})
	}
}

// Before an upgrade there are no counters, and the command says what makes them.
func TestCampaignWithoutCounters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := queuetest.Server(t, dir)
	queuetest.On(t, srv)
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), queue.StreamCampaigns); err != nil {
		t.Fatal(err)
	}
	if got := command(t, "", "campaign", "spring", "--data="+dir); got.code != cli.ExitFailed || !strings.Contains(got.err, "brazier setup") {
		t.Errorf("campaign: %+v", got)
	}
}
