package webhook_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// A vector is a line of webhook_events.jsonl: a recorded or documented body, and what has to become of it.
type vector struct {
	Name, Body, PSID, Page, Kind string
	Expect                       []expectation
	Signature                    string `json:"x_hub_signature_256"`
	AppSecret                    string `json:"app_secret"`
}

type expectation struct {
	Do, Kind, PSID, Page, Key, Ref, Window, Source, Action string
	At, Watermark                                          time.Time
	RefFrom                                                string `json:"ref_from"`
	RefValid                                               *bool  `json:"ref_valid"`
	Standby                                                bool
	MIDs                                                   []string
}

// outcome is what became of one event, in the terms of the file.
type outcome struct {
	Do, Kind, PSID, Page, Key, Ref, RefFrom, Source, Action string
	At, Watermark                                           time.Time
	OtherRef, Opens, Standby                                bool
	MIDs                                                    []string
}

const byContent = "by content"

// wanted is what the file expects, in the terms of the package.
func (x expectation) wanted(v vector) outcome {
	o := outcome{Do: x.Do, Kind: x.Kind, PSID: x.PSID, Page: x.Page}
	switch x.Do {
	case "ignore":
		o.PSID, o.Page = v.PSID, v.Page // of the line
		return o
	case "duplicate":
		return o
	}
	o.At, o.Watermark, o.Ref, o.RefFrom, o.Source = x.At, x.Watermark, x.Ref, x.RefFrom, x.Source
	o.Opens, o.Standby, o.MIDs, o.Action = strings.HasPrefix(x.Window, "opens"), x.Standby, x.MIDs, x.Action
	if x.RefValid != nil && !*x.RefValid {
		o.Ref, o.RefFrom, o.OtherRef = "", "", true
	}
	switch {
	case x.Do != "capture":
	case strings.Contains(x.Key, "|"): // the names of what is in it
		o.Key = byContent
	default:
		o.Key = x.Page + "|" + x.PSID + "|" + x.Kind + "|" + x.Key
	}
	return o
}

var contentKey = regexp.MustCompile(`^\d+\|\d+\|[a-z_]+\|\d+\|[0-9a-f]{32}$`)

// became is an event in the terms of the file.
func became(e webhook.Event) outcome {
	o := outcome{Do: "capture", Kind: string(e.Kind), PSID: e.PSID, Page: e.Page, Key: e.Key, Source: e.Source, Action: e.Action,
		At: e.At, Watermark: e.Watermark, OtherRef: e.OtherRef, Opens: e.Opens, Standby: e.Standby, MIDs: e.MIDs}
	if len(e.Refs) > 0 {
		o.Ref, o.RefFrom = e.Refs[0].Ref, string(e.Refs[0].From)
	}
	if contentKey.MatchString(o.Key) {
		o.Key = byContent
	}
	switch {
	case e.Page != page && e.Page != other, e.Kind == webhook.KindEcho:
		return outcome{Do: "ignore", Kind: o.Kind, PSID: o.PSID, Page: o.Page}
	case e.Kind.IsReceipt():
		o.Do, o.Key, o.At = "receipt", "", time.Time{}
	case e.Kind == webhook.KindPolicy:
		o.Do, o.Key, o.At = "page_alert", "", time.Time{}
	}
	return o
}

func TestEventVectors(t *testing.T) {
	readLines(t, "webhook_events.jsonl", 61, func(v vector) {
		t.Run(v.Name, func(t *testing.T) {
			if !webhook.Verify([][]byte{[]byte(v.AppSecret)}, v.Signature, []byte(v.Body)) {
				t.Error("the signature does not verify")
			}
			batch, err := webhook.Parse([]byte(v.Body), received)
			if err != nil {
				if len(v.Expect) != 1 || v.Expect[0].Do != "reject" {
					t.Errorf("%v, want %+v", err, v.Expect)
				}
				return
			}
			var want, got []outcome
			for _, x := range v.Expect {
				want = append(want, x.wanted(v))
			}
			for _, e := range batch.Events {
				got = append(got, became(e))
			}
			for _, s := range batch.Skipped {
				o := outcome{Do: "ignore", Kind: string(s.Kind), PSID: s.PSID, Page: s.Page}
				if s.Why == webhook.WhyDuplicate {
					o.Do = "duplicate"
				}
				got = append(got, o)
			}
			for i := range got { // the file has a source where it matters
				if i < len(want) && want[i].Source == "" {
					got[i].Source = ""
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			expectNoText(t, v.Body, batch)
		})
	})
}

// private are the members that hold what a person wrote, or other things that are not to be kept.
var private = []string{"text", "title", "url", "answer", "question", "emoji", "payload", "notification_messages_token", "photo_url",
	"ad_title", "name", "feedback", "referer_uri", "user_ref", "identifier", "message"}

func expectNoText(t *testing.T, body string, batch webhook.Batch) {
	t.Helper()
	kept, err := json.Marshal(batch)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(name string, v any)
	walk = func(name string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, v := range v {
				walk(name, v)
			}
		case []any:
			for _, v := range v {
				walk(name, v)
			}
		case string:
			quoted, _ := json.Marshal(v)
			if v != "" && slices.Contains(private, name) && strings.Contains(string(kept), string(quoted)) {
				t.Errorf("%s %q is kept: %s", name, v, kept)
			}
		}
	}
	var all any
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatal(err)
	}
	walk("", all)
}
