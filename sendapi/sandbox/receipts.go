package sandbox

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"
)

// receipts reports what becomes of a message that the person got: an echo, a delivery receipt, a read receipt, as far as the page
// is subscribed. Messages to other recipients than a PSID have none. The caller holds mu.
func (s *Sandbox) receipts(p *page, snd *send, callSeq int64) {
	if s.hooks.URL == "" || !snd.person || snd.action != 0 {
		return
	}
	mid := s.messageID(callSeq)
	s.hooks.events++
	o := occurrence{rnd: s.eventRand(s.hooks.events), page: p.ID, psid: snd.recipient, at: time.Now()}
	named := mid
	if o.rnd.IntN(3) == 0 {
		named = ""
	}
	for _, r := range []struct{ field, json string }{
		{"message_echoes", o.echo(mid, s.hooks.app(p.App), snd.message)},
		{"message_deliveries", o.delivery(named, o.at)},
		{"message_reads", o.read(o.at)},
	} {
		if !slices.Contains(p.fields, r.field) {
			continue
		}
		e := hookEvent{page: p, pageID: p.ID, psid: snd.recipient, json: r.json}
		s.hooks.enqueue(e)
		if twice := s.hooks.ReceiptsTwice; twice > 0 && o.rnd.IntN(twice) == 0 {
			s.hooks.enqueue(e)
		}
	}
}

// echo writes the echo of a message of the page. The app's id comes as a number or as a string (message-echoes page).
func (o *occurrence) echo(mid string, a App, message map[string]any) string {
	id := a.id()
	if o.rnd.IntN(2) == 0 {
		id = strconv.Quote(id)
	}
	attachments := asJSON(message["attachments"])
	if one := asJSON(message["attachment"]); one != "" {
		attachments = "[" + one + "]"
	}
	value := object(o.rnd, "is_echo", "true", "app_id", id, "mid", quoted(mid), "metadata", asJSON(message["metadata"]),
		"text", asJSON(message["text"]), "attachments", attachments)
	return object(o.rnd, "sender", `{"id":"`+o.page+`"}`, "recipient", `{"id":"`+o.psid+`"}`, "timestamp", o.millis(), "message", value)
}

// asJSON returns a value as JSON, or nothing if there is none.
func asJSON(v any) string {
	if v == nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic("sandbox: echo: " + err.Error()) // what was decoded from JSON can be encoded again
	}
	return string(b)
}
