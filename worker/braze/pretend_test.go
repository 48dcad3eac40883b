package braze_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// pretend is a transport that answers without a network, for what needs another clock.
type pretend func(body) (status int, text string)

func (p pretend) RoundTrip(r *http.Request) (*http.Response, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var b body
	if err := json.Unmarshal(raw, &b); err != nil {
		return nil, err
	}
	status, text := p(b)
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}, nil
}
