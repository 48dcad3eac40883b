package sendapi

import (
	"bytes"
	"net/url"
	"strings"
)

// decode reads body in whichever encoding it is and returns its nested JSON, scanned.
func decode(contentType string, body []byte) (tree, *InvalidError) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")) // a byte order mark, which JSON forbids and some editors write
	body = bytes.Trim(body, " \t\r\n")
	switch {
	case isMultipart(contentType):
		return tree{}, &InvalidError{Cause: causeUnsupported, Reason: "is multipart/form-data, and Brazier takes no uploads", Remedy: "send JSON, and name a file by its url or attachment_id"}
	case len(body) == 0:
		return tree{}, &InvalidError{Cause: causeEmpty, Reason: "is empty", Remedy: recipientAndMessage}
	case bytes.HasPrefix(body, []byte("\x1f\x8b")): // gzip
		return tree{}, Compressed()
	case isForm(body):
		nested, invalid := decodeForm(body)
		if invalid != nil {
			return tree{}, invalid
		}
		body = nested
	}
	t, syntax := scan(body)
	if syntax != nil {
		return t, syntax.invalid("", body)
	}
	switch t.kind(0) {
	case '{':
	case '[':
		return t, &InvalidError{Cause: causeUnsupported, Reason: "is a list, and Brazier takes no batches", Remedy: "send one request per call"}
	default:
		return t, &InvalidError{Cause: causeType, Reason: "is not an object", Remedy: recipientAndMessage}
	}
	if !t.isFlat() {
		return t, nil
	}
	nested, invalid := t.unfold()
	if invalid != nil {
		return t, invalid
	}
	if t, syntax = scan(nested); syntax != nil {
		return t, syntax.invalid("", nested) // only its depth can be at fault: the parts were scanned
	}
	return t, nil
}

const (
	urlEncodeRemedy     = "use the Liquid filter url_encode"
	recipientAndMessage = `send JSON with a recipient and a message`
)

// Compressed returns the error of a compressed body, for callers of [Parse] that find a Content-Encoding header.
func Compressed() *InvalidError {
	return &InvalidError{Cause: causeEncoding, Reason: "is compressed", Remedy: "do not compress it"}
}

func isMultipart(contentType string) bool {
	const multipart = "multipart/"
	contentType = strings.TrimSpace(contentType)
	return len(contentType) >= len(multipart) && strings.EqualFold(contentType[:len(multipart)], multipart)
}

// isForm reports whether body begins as a form does, with a name and an equals sign, which no JSON does.
func isForm(body []byte) bool {
	name, _, found := bytes.Cut(body, []byte("="))
	return found && len(name) > 0 && bytes.IndexFunc(name, func(r rune) bool {
		return !(isAlpha(r) || '0' <= r && r <= '9' || strings.ContainsRune("_-.[]%+&", r))
	}) < 0
}

// isFlat reports whether the request has JSON in strings where objects belong.
func (t *tree) isFlat() bool {
	for n := range t.children(0) {
		if t.kind(n) == '"' && (t.isNamed(n, "recipient") || t.isNamed(n, "message")) {
			return true
		}
	}
	return false
}

// unfold takes the JSON out of the strings of flat JSON. All else stays as it is.
func (t *tree) unfold() ([]byte, *InvalidError) {
	nested := make([]byte, 0, len(t.src))
	copied := int32(0)
	for n := range t.children(0) {
		if t.kind(n) != '"' {
			continue
		}
		if t.nodes[n].text.halfPair {
			return nil, &InvalidError{Field: t.path(n), Cause: causeEncoding, Reason: "is not UTF-8", Remedy: "send it as UTF-8"}
		}
		value, invalid := nestedJSON(t.path(n), t.text(n))
		if invalid != nil {
			return nil, invalid
		}
		if value != nil {
			nested = append(nested, t.src[copied:t.nodes[n].val.start]...)
			nested = append(nested, value...)
			copied = t.nodes[n].val.end
		}
	}
	return append(nested, t.src[copied:]...), nil
}

// decodeForm makes nested JSON of an urlencoded form, with its fields in their order.
//
// Graph reads an array in a form from JSON too. It is not known whether Graph reads names such as recipient[id], so these
// are refused.
func decodeForm(form []byte) ([]byte, *InvalidError) {
	nested := append(make([]byte, 0, len(form)), '{')
	for pair := range strings.SplitSeq(string(form), "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, errName := url.QueryUnescape(rawName)
		field := knownField(name)
		if base, _, isArray := strings.Cut(name, "["); isArray {
			return nil, inParts(knownField(base))
		}
		text, errValue := url.QueryUnescape(rawValue)
		if errName != nil || errValue != nil {
			return nil, &InvalidError{Field: field, Cause: causeEncoding, Reason: "is not percent-encoded", Remedy: urlEncodeRemedy}
		}
		value, invalid := nestedJSON(field, []byte(text))
		if invalid != nil {
			if invalid.Reason == faults[endsEarly].reason {
				invalid.Remedy = urlEncodeRemedy // an unencoded & in a text ends the field
			}
			return nil, invalid
		}
		if len(nested) > 1 {
			nested = append(nested, ',')
		}
		nested = append(appendQuoted(nested, name), ':')
		if value != nil {
			nested = append(nested, value...)
		} else {
			nested = appendQuoted(nested, text)
		}
	}
	return append(nested, '}'), nil
}

// inParts refuses a field of a form such as recipient[id].
func inParts(field string) *InvalidError {
	remedy := `send it as one field, such as recipient={"id":"…"}`
	if field == "message" {
		remedy = `send it as one field, such as message={"text":"…"}`
	}
	return &InvalidError{Field: field, Cause: causeUnsupported, Reason: "is split into parts with brackets in their names", Remedy: remedy}
}

// nestedJSON returns the JSON in the text of a parameter, nil if the parameter is to stay a string. Recipient and message must
// be objects. Other parameters are objects if their text is one, as that of thread_control or the payload of a reaction is.
func nestedJSON(field string, text []byte) ([]byte, *InvalidError) {
	must := field == "recipient" || field == "message"
	trimmed := bytes.TrimLeft(text, " \t\r\n")
	switch {
	case must && len(trimmed) == 0:
		return nil, &InvalidError{Field: field, Cause: causeEmpty, Reason: "is empty", Remedy: recipientAndMessage}
	case len(trimmed) == 0 || trimmed[0] != '{' && (must || trimmed[0] != '['):
		if must {
			return nil, &InvalidError{Field: field, Cause: causeType, Reason: "must be an object in braces", Remedy: `write {"id":"…"} or {"text":"…"}`}
		}
		return nil, nil
	}
	if inner := bytes.TrimLeft(trimmed[1:], " \t\r\n"); len(inner) > 0 && inner[0] == '\'' {
		text = doubleQuoted(text)
	}
	if _, syntax := scan(text); syntax != nil {
		if must {
			return nil, syntax.invalid(field, text)
		}
		return nil, nil
	}
	return text, nil
}

// doubleQuoted turns single quotes around strings into double quotes. The Send API reference itself has single quotes in its
// example of a form: recipient={'id':'PSID'}. It is not known how Facebook reads escapes inside them; \' is read as an
// apostrophe.
func doubleQuoted(text []byte) []byte {
	out := make([]byte, 0, len(text)+8)
	var quote byte // that opened the string we are in, 0 outside
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
			out = append(out, '"')
		case quote != 0 && c == quote:
			quote = 0
			out = append(out, '"')
		case quote == '\'' && c == '"':
			out = append(out, '\\', '"')
		case quote != 0 && c == '\\' && i+1 < len(text):
			i++
			if text[i] != '\'' {
				out = append(out, '\\')
			}
			out = append(out, text[i])
		default:
			out = append(out, c)
		}
	}
	return out
}

// knownField returns name if this package knows it, and * otherwise: see InvalidError.
func knownField(name string) string {
	for _, known := range fieldNames {
		if name == known {
			return known
		}
	}
	return "*"
}

// appendQuoted appends text to dst as a JSON string.
func appendQuoted(dst []byte, text string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
