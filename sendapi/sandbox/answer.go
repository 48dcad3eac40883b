package sandbox

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// answer answers the call in the way of the fault that struck.
func (h graphHandler) answer(w http.ResponseWriter, o *outcome) {
	switch o.fault.Action {
	case Hang, Reset, ResetEarly:
		h.reset(w)
		return
	case Close:
		h.writeRaw(w, "")
		return
	case Raw:
		h.writeRaw(w, o.fault.Body)
		return
	}
	status, body := h.compose(w.Header(), o)
	if a := o.fault.Action; a == CutHeader || a == CutBody {
		h.writeRaw(w, half(a, status, w.Header(), body))
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // if the caller is gone, nothing can be done; the record already says what happened
}

// compose fills in the header and returns status and body.
func (h graphHandler) compose(header http.Header, o *outcome) (int, []byte) {
	trace := traceID(o.rnd)
	header["X-Sandbox"] = sandboxHeader
	header["Facebook-Api-Version"] = []string{servedVersion(o.version)}
	header["X-Fb-Trace-Id"] = []string{trace}
	header["Content-Type"] = jsonType
	o.usage.set(header)
	status, body := http.StatusOK, []byte(nil)
	switch f := &o.fault; {
	case o.err != nil:
		e := o.err.varied(o.rnd)
		header["Www-Authenticate"] = []string{e.challenge()}
		status, body = e.status, e.body(o.rnd, trace)
	case f.Action == HTML:
		header["Content-Type"] = []string{"text/html; charset=utf-8"}
		status, body = f.Status, []byte(cmp.Or(f.Body, htmlPage))
	case f.Action == Answer || f.Action == Empty:
		status, body = f.Status, []byte(f.Body)
		if !json.Valid(body) {
			header["Content-Type"] = []string{"text/plain; charset=utf-8"} // a proxy's answer, or an empty body
		}
	default:
		body = h.success(o.rnd, &o.send, o.seq)
	}
	for k, v := range o.fault.Header {
		header[http.CanonicalHeaderKey(k)] = v
	}
	return status, body
}

var (
	sandboxHeader = []string{"brazier"} // X-Sandbox, on every response
	jsonType      = []string{"application/json; charset=UTF-8"}
)

const htmlPage = `<!DOCTYPE html>
<html lang="en"><head><title>Error</title></head>
<body><div id="core"><h1>Sandbox: the simulated front end failed.</h1><p>Try again later.</p></div></body></html>
`

// challenge is the WWW-Authenticate header that Graph errors carry (Graph debugging guide).
func (e *graphError) challenge() string {
	kind := "invalid_request"
	if e.code == 190 {
		kind = "invalid_token"
	}
	message := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, e.message)
	return fmt.Sprintf(`OAuth "Facebook Platform" "%s" "%s"`, kind, message)
}

// half renders an answer and returns its first part.
func half(a Action, status int, header http.Header, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	if a == CutHeader {
		return b.String() + "Content-Type: applica"
	}
	_ = header.Write(&b) // a Builder takes everything
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(body))
	b.Write(body[:len(body)/2])
	return b.String()
}

// hijack takes a call's connection from the HTTP server. The caller must call release, which closes the connection.
func (h graphHandler) hijack(w http.ResponseWriter) (conn net.Conn, release func()) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the connection is gone already: the server only has to drop it
	}
	return conn, func() {
		conn.Close()
		h.graph.conns.Done()
	}
}

// reset ends the connection with a TCP reset.
func (h graphHandler) reset(w http.ResponseWriter) {
	conn, release := h.hijack(w)
	defer release()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // if this fails, the caller sees an orderly end instead of a reset
	}
}

// writeRaw writes text instead of a response and closes the connection in an orderly way, so that the caller can read it.
func (h graphHandler) writeRaw(w http.ResponseWriter, text string) {
	conn, release := h.hijack(w)
	defer release()
	_, _ = conn.Write([]byte(text)) // if the caller is gone, nothing can be done
}

// messageID makes the id of the message that call seq delivered. Its form varies: ids are opaque.
func (s *Sandbox) messageID(seq int64) string {
	rnd := rand.New(rand.NewPCG(s.seed+1, uint64(seq)))
	id := fmt.Sprintf("sandbox_%012x_%d", rnd.Uint64()>>16, seq)
	return []string{"m_", "mid.$", "AG"}[rnd.IntN(3)] + id
}

// success returns the body of the answer to a call that went well.
func (s *Sandbox) success(rnd *rand.Rand, snd *send, seq int64) []byte {
	var fields []field
	if !snd.anonymous {
		id := snd.recipient
		if !snd.person {
			id = strconv.FormatUint(1e15+rnd.Uint64N(8e15), 10)
		}
		fields = append(fields, field{"recipient_id", encodeString(id)})
	}
	if snd.action == 0 {
		fields = append(fields, field{"message_id", encodeString(s.messageID(seq))})
	}
	if snd.reusable {
		fields = append(fields, field{"attachment_id", encodeString(strconv.FormatUint(1e15+rnd.Uint64N(8e15), 10))})
	}
	return encodeObject(rnd, fields)
}
