package webhook_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

// Whatever arrives: no panic, what comes out is within its bounds, and an event between two others leaves them as they are.
func FuzzParse(f *testing.F) {
	for _, body := range bodies(f) {
		f.Add(body)
		var w struct {
			Entry []struct{ Messaging []json.RawMessage }
		}
		_ = json.Unmarshal(body, &w) // one body is no JSON
		for _, entry := range w.Entry {
			for _, event := range entry.Messaging {
				f.Add([]byte(event))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		batch, err := webhook.Parse(data, received)
		if err != nil && len(batch.Events)+len(batch.Skipped) != 0 {
			t.Errorf("%v, and yet %+v", err, batch)
		}
		again, _ := webhook.Parse(data, received)
		if diff := cmp.Diff(batch, again); diff != "" {
			t.Errorf("parsed again it differs:\n%s", diff)
		}
		for _, e := range batch.Events {
			expectBounds(t, e)
		}
		if !json.Valid(data) || bytes.Contains(data, []byte("m_first")) || bytes.Contains(data, []byte("m_last")) {
			return
		}
		first, last := event(`"message":{"mid":"m_first"}`), event(`"message":{"mid":"m_last"}`)
		between := parse(t, inEntry(first+`,`+string(data)+`,`+last))
		if n := len(between.Events); n+len(between.Skipped) != 3 || between.Events[0].MID != "m_first" || between.Events[n-1].MID != "m_last" {
			t.Errorf("%+v, want its neighbours, and it or a reason", between)
		}
		for _, e := range between.Events {
			expectBounds(t, e)
		}
	})
}

func expectBounds(t *testing.T, e webhook.Event) {
	t.Helper()
	isDigits := func(s string) bool { return s != "" && len(s) <= 32 && strings.Trim(s, "0123456789") == "" }
	if !isDigits(e.Page) || e.PSID == e.Page || isDigits(e.PSID) == (e.Kind == webhook.KindPolicy) {
		t.Errorf("person %q on page %q", e.PSID, e.Page)
	}
	if len(e.Key) > webhook.MaxKey || strings.ContainsFunc(e.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		t.Errorf("key %q", e.Key)
	}
	if e.At.Year() < 2016 || e.At.After(received.Add(time.Hour)) || e.Watermark.After(received.Add(time.Hour)) {
		t.Errorf("at %s, watermark %s", e.At, e.Watermark)
	}
	if !e.Kind.ByPerson() && (e.Opens || e.Refs != nil) || len(e.Refs) > webhook.MaxRefs || len(e.MIDs) > webhook.MaxMIDs || len(e.Reason) > 500 {
		t.Errorf("%+v", e)
	}
	stored, err := json.Marshal(e)
	var back webhook.Event
	if err != nil || json.Unmarshal(stored, &back) != nil || !cmp.Equal(e, back) {
		t.Errorf("%+v is stored as %s, %v", e, stored, err)
	}
}

// bodies are the bodies of webhook_events.jsonl.
func bodies(tb testing.TB) (all [][]byte) {
	tb.Helper()
	readLines(tb, "webhook_events.jsonl", 61, func(v vector) { all = append(all, []byte(v.Body)) })
	return all
}

// A reference that is accepted was signed with the secret, and names somebody; one that differs in a byte is refused.
func FuzzCheckRef(f *testing.F) {
	readLines(f, "ref_vectors.jsonl", 17, func(v struct{ Ref string }) { f.Add(v.Ref, "user-00017_a", 7) })
	f.Fuzz(func(t *testing.T, ref, id string, at int) {
		for _, ref := range []string{ref, sign(ref)} { // sign: what Liquid would sign
			r, err := policy.Check(ref, now)
			if err != nil {
				if r != (webhook.Ref{}) || refusal(t, err) == "" {
					t.Errorf("%+v, %v", r, err)
				}
				continue
			}
			if end := strings.LastIndexByte(ref, '-'); sign(ref[:end]) != ref || strings.TrimSpace(r.ID) == "" || r.Made.IsZero() {
				t.Errorf("%q is accepted as %+v", ref, r)
			}
		}
		for _, form := range []webhook.Form{webhook.FormBrazeID, webhook.FormEncoded, webhook.FormPlain} {
			made, err := webhook.NewRef([]byte(secret), form, id, now)
			if err != nil {
				continue
			}
			r, err := policy.Check(made, now)
			if err != nil || r.ID != id || r.Form != form || !r.Made.Equal(now) {
				t.Fatalf("%q became %q, which is %+v, %v", id, made, r, err)
			}
			changed := []byte(made)
			changed[uint(at)%uint(len(changed))] ^= 1
			if r, err := policy.Check(string(changed), now); err == nil {
				t.Errorf("%q is accepted as %+v", changed, r)
			}
		}
	})
}
