package sendapi

// classify decides the class of an error object of Facebook's.
//
// The table comes first, is_transient second, the HTTP status last: 400 carries
// throttles and outages too (code 2 was seen with 400 and with 500, code 4 with
// 403). is_transient is usually absent, which says nothing, so only the value true
// counts, and only in two cases:
//
//   - for a code without a row;
//   - for a code whose row makes the message dead, where no row has the subcode, or
//     there is no subcode. Facebook knows more about a new subcode than the table
//     does, and a retry costs less than a lost message.
//
// Otherwise the row decides. Code 4 comes with is_transient true and is a throttle
// all the same, since retrying the one message would keep the limit exceeded. The
// value false does not make a transient row final, since retries are limited anyway.
func classify(code, subcode int, typ string, transient bool, status int) Class {
	row, ok := Explain(code, subcode, typ)
	switch {
	case !ok && transient:
		return ClassTransient
	case !ok:
		return rowOfStatus(status).refused
	case transient && row.subcode == 0 && row.Class.terminal():
		return ClassTransient
	}
	return row.Class
}

// statusRow is what an HTTP status means where the body does not decide.
type statusRow struct {
	first, last     int
	refused, silent Class
	meaning         string
}

// statusRows decide where the body does not. refused is for an error object whose
// code has no row, silent for an answer without an error object: HTML, an empty
// body, one cut short.
//
// A refusal with an unknown code counts as the message's own fault: most of Meta's
// codes are, and a retry would bring the same answer. If the fault is the page's after
// all, every message is refused, which package worker notices. An answer without an
// error object is not the message's fault, since Facebook explains every refusal: the
// answer comes from something in front of the Send API, and its status may mean
// anything. One such answer does not prove the page at fault either, so silent is
// never ClassPage.
var statusRows = []statusRow{
	// The status says that the call was carried out. An error object in the body says
	// otherwise, and a body that is no JSON object is not from Facebook.
	{200, 299, ClassInDoubt, ClassInDoubt, "success in a form that is not Facebook's"},
	// Redirects are not followed, so nothing was carried out.
	{300, 399, ClassTransient, ClassTransient, "redirect"},
	// Silent: a proxy or firewall.
	{401, 401, ClassAuth, ClassTransient, "not authorized"},
	{403, 403, ClassMessage, ClassTransient, "forbidden"},
	// A wrong URL or version: every message of the page is refused.
	{404, 405, ClassPage, ClassTransient, "no such endpoint"},
	// The egress proxy wants credentials.
	{407, 407, ClassTransient, ClassTransient, "proxy authentication required"},
	// The server stopped waiting for the request, so it has not carried it out.
	{408, 408, ClassTransient, ClassTransient, "request timeout"},
	{413, 413, ClassMessage, ClassMessage, "request too large"},
	{421, 421, ClassTransient, ClassTransient, "misdirected request"},
	{425, 425, ClassTransient, ClassTransient, "too early"},
	// Never seen from the Send API itself; other senders handle it too.
	{429, 429, ClassThrottle, ClassThrottle, "too many requests"},
	{400, 499, ClassMessage, ClassTransient, "refused"},
	// The server does not support the method or HTTP version, so nothing was carried out.
	{501, 501, ClassTransient, ClassTransient, "not implemented"},
	{505, 505, ClassTransient, ClassTransient, "HTTP version not supported"},
	// A server that sheds load, or a gateway with no server behind it: nobody has read
	// the request. One other sender treats even this as uncertain.
	{503, 503, ClassTransient, ClassTransient, "service unavailable"},
	// The gateway passed the request on and got no answer, so the outcome is not known.
	{504, 504, ClassTransient, ClassInDoubt, "gateway timeout"},
	// A network that wants a login first (RFC 6585) has passed nothing on.
	{511, 511, ClassTransient, ClassTransient, "network authentication required"},
	// A server may fail after it has sent the message, and a gateway may say 500 or 502
	// after it has passed the request on. 502 with HTML was seen.
	{500, 599, ClassTransient, ClassInDoubt, "server error"},
}

// rowOfStatus finds the row of an HTTP status.
func rowOfStatus(status int) statusRow {
	for _, r := range statusRows {
		if r.first <= status && status <= r.last {
			return r
		}
	}
	// No final HTTP status, so the answer is not from the Send API.
	return statusRow{refused: ClassInDoubt, silent: ClassInDoubt, meaning: "odd HTTP status"}
}
