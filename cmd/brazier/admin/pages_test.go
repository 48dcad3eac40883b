package admin

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/queuetest"
	"github.com/brazier-relay/brazier/sendapi"
)

// A throttled app is one hold for all its pages: each is listed as held, and whoever resumes one resumes them all.
func TestPagesOfHeldApp(t *testing.T) {
	t.Parallel()
	q := queuetest.New(t)
	names := pageNames{"1029384756": {name: "acme", app: "shop"}, "5647382910": {name: "nordwind", app: "shop"}, "1112223334": {name: "solo", app: ""}}
	var s queue.PageState
	s.Hold(queue.PageState{Class: string(sendapi.ClassThrottleApp), Code: 4, Since: time.Now(), Until: time.Now().Add(time.Hour)})
	if _, err := q.SetPageState(t.Context(), queue.AppKey("shop"), s); err != nil {
		t.Fatal(err)
	}
	states := func() (found string) {
		t.Helper()
		views, err := pageViews(t.Context(), q, names)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range views {
			found += v.Page + " " + v.State + " " + v.Class + "\n"
		}
		return found
	}
	if got, want := states(), "acme held throttle_app\nnordwind held throttle_app\nsolo open \n"; got != want {
		t.Errorf("pages are\n%s, want\n%s", got, want)
	}
	var out bytes.Buffer
	if err := resumeApp(t.Context(), q, cli.Stdio{Out: &out}, names["5647382910"]); err != nil || !strings.Contains(out.String(), "all pages of its app") {
		t.Errorf("resume says %q, error %v", out.String(), err)
	}
	if got, want := states(), "acme open \nnordwind open \nsolo open \n"; got != want {
		t.Errorf("pages are\n%s, want\n%s", got, want)
	}
}
