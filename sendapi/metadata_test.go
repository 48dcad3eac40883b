package sendapi

import "testing"

func TestWithMetadata(t *testing.T) {
	tests := []struct{ body, want string }{
		{`{"recipient":{"id":"1"},"message":{"text":"a"}}`, `{"recipient":{"id":"1"},"message":{"metadata":"j\"1","text":"a"}}`},
		{`{"message": { } , "x":1e400}`, `{"message": {"metadata":"j\"1" } , "x":1e400}`},
		{`{"message":{"text":"a","metadata":"own"}}`, `{"message":{"text":"a","metadata":"own"}}`},
		{`{"recipient":{"id":"1"},"sender_action":"typing_on"}`, `{"recipient":{"id":"1"},"sender_action":"typing_on"}`},
		{`{"x":{"message":{"text":"a"}}}`, `{"x":{"message":{"text":"a"}}}`},
		{`["message"]`, `["message"]`},
		{`{"message":`, `{"message":`},
		{``, ``},
	}
	for _, tt := range tests {
		if got := string(WithMetadata([]byte(tt.body), `j"1`)); got != tt.want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.body, got, tt.want)
		}
	}
}
