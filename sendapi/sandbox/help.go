package sandbox

import (
	"fmt"
	"strings"
)

// Banner returns a text that says that this is a simulation, for a command to print before anything else.
func (s *Sandbox) Banner() string {
	var b strings.Builder
	rule := strings.Repeat("=", 78) + "\n"
	b.WriteString(rule)
	b.WriteString("  SIMULATED FACEBOOK. This is brazier's sandbox of the Messenger Send API.\n")
	b.WriteString("  It answers as Facebook would. NOTHING SENT HERE REACHES A PERSON.\n")
	b.WriteString(rule)
	fmt.Fprintf(&b, "  Graph API  %s\n", s.URL())
	if s.control != nil {
		fmt.Fprintf(&b, "  Control    %s  (open it for help)\n", s.ControlURL())
	}
	fmt.Fprintf(&b, "  Seed       %d\n", s.seed)
	return b.String()
}

// Help documents the special recipients and the control listener, with lines to paste.
func (s *Sandbox) Help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Send a message (the token of a page is %s unless configured otherwise):\n\n", DefaultToken("{page-id}"))
	fmt.Fprintf(&b, "  curl %s/v26.0/me/messages -H 'Authorization: Bearer any-token' \\\n", s.URL())
	b.WriteString(`    -H 'Content-Type: application/json' -d '{"recipient":{"id":"1234567890123456"},"message":{"text":"hello"}}'` + "\n\n")
	b.WriteString("Recipients whose id begins like this are special. All others get their messages.\n\n")
	for _, p := range persons {
		fmt.Fprintf(&b, "  %s  %s\n", p.prefix, p.does)
	}
	if s.control != nil {
		b.WriteString("\n" + strings.ReplaceAll(controlHelp, "CONTROL", s.ControlURL()))
	}
	return b.String()
}

const controlHelp = `Control:

  # counts, per page and by error
  curl CONTROL/summary
  # the record: all parameters optional, since is an RFC 3339 time, limit how many of the newest (100)
  curl 'CONTROL/calls?page=&recipient=&since=&limit='
  # the recipient of each message that was delivered, one per line
  curl CONTROL/recipients
  # messages delivered more than once
  curl CONTROL/duplicates
  # pages and their state
  curl CONTROL/pages
  # the script, with how often each fault struck
  curl CONTROL/faults

  # the next call is answered 613
  curl CONTROL/faults -d '{"code":613}'
  # until removed: the app's limit is reached
  curl CONTROL/faults -d '{"times":-1,"status":403,"code":4,"is_transient":true}'
  # five times, each tenth message is sent but its answer lost
  curl CONTROL/faults -d '{"action":"reset","accept":true,"every":10,"times":5}'
  # the page's next call gets no answer; after 30 s it is cut
  curl CONTROL/faults -d '{"action":"hang","delay":"30s","page":"1029384756"}'
  # a text is refused, whoever sends it to whom
  curl CONTROL/faults -d '{"times":-1,"text":"free gift","code":368,"subcode":1346003}'
  # a setting is wrong: the token is not the page's, no token arrives, the app is gone
  curl CONTROL/faults -d '{"times":-1,"code":100,"subcode":33,"type":"GraphMethodException"}'
  curl CONTROL/faults -d '{"times":-1,"code":2500}'
  curl CONTROL/faults -d '{"times":-1,"code":101}'
  # a proxy answers instead of Facebook: HTML with 200, no ids, a silent 502, 403 without a Graph error
  curl CONTROL/faults -d '{"action":"html","status":200}'
  curl CONTROL/faults -d '{"status":200,"body":"{}"}'
  curl CONTROL/faults -d '{"status":502}'
  curl CONTROL/faults -d '{"status":403,"body":"blocked","header":{"Server":"proxy"}}'
  # removes one fault; /faults without id removes all
  curl -X DELETE CONTROL/faults/f1

  # the page's token has expired; the page has a new one
  curl CONTROL/pages/1029384756/token -d '{"dead":463}'
  curl CONTROL/pages/1029384756/token -d '{"token":"fresh"}'
  # the page may not send; it may again
  curl CONTROL/pages/1029384756/restrict -d '{"code":10,"subcode":1893063}'
  curl CONTROL/pages/1029384756/restrict -d '{"code":0}'
  # the webhook, which is verified first; then its state and what was sent there
  curl -X PUT CONTROL/webhook -d '{"url":"http://127.0.0.1:8080/webhook"}'
  curl CONTROL/webhook
  curl 'CONTROL/webhook/record?limit='
  # a person writes to the only page; follows a link as a newcomer, and as a known person; presses a button
  curl CONTROL/persons/1234567890123456/write -d '{"text":"hello"}'
  curl CONTROL/persons/1234567890123456/write -d '{"ref":"REF","new":true}'
  curl CONTROL/persons/1234567890123456/write -d '{"ref":"REF"}'
  curl CONTROL/persons/1234567890123456/write -d '{"payload":"MORE"}'
  # 100 people write three messages each to a page, and Facebook sends each event twice
  curl CONTROL/persons/2000000000000000/write -d '{"page":"1029384756","persons":100,"times":3,"repeat":1}'
  # several events share a request, in any order
  curl -X PUT CONTROL/webhook -d '{"batch":50,"shuffle":true}'
  # a failed request is repeated after 1, 2, 4 s …; after a minute of failures the page loses its subscription
  curl -X PUT CONTROL/webhook -d '{"timeout":"5s","retry_every":"1s","retry_for":"1m"}'
  # the app signs with another secret; {"verify_token":"…"} verifies again
  curl -X PUT CONTROL/webhook -d '{"secret":"fresh"}'
  # messages sent are reported as echoed, delivered and read, about one in five of these reports twice
  curl -X PUT CONTROL/webhook -d '{"receipts":true,"receipts_twice":5}'
  curl CONTROL/pages/1029384756/subscription -d '{"fields":["messages","message_echoes","message_deliveries","message_reads"]}'
  # Facebook warns the page; drops its subscription without a notice
  curl CONTROL/pages/1029384756/policy -d '{"action":"warning","reason":"Too many messages."}'
  curl -X DELETE CONTROL/pages/1029384756/subscription

  # answers take 600 ms to 1 s
  curl -X PUT CONTROL/latency -d '{"latency":"800ms","jitter":"200ms"}'
  # connections are refused; then they are accepted again
  curl -X PUT CONTROL/connections -d '{"refuse":true}'
  curl -X PUT CONTROL/connections -d '{"refuse":false}'
  # forgets the record and the script
  curl -X POST CONTROL/reset

A fault takes page, recipient (a prefix), text (part of the message), every, times (-1: until removed), action, accept,
delay, status, code, subcode, type, message, is_transient, header, body. Its action is one of pass, answer (default), html,
empty, raw, hang, close, reset, reset_before_body, cut_header, cut_body.

A write takes page, kind, text, ref, payload, new (whether the thread is), mid, timestamp (in milliseconds), times, repeat,
persons. Its kind is one of message, quick_reply, postback, get_started, referral, optin, reaction, account_linking, delivery,
read. The webhook takes url, app, secret, verify_token, timeout, retry_every, retry_for, batch, parallel, shuffle, receipts,
receipts_twice.
`
