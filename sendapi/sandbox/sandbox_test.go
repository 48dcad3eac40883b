package sandbox

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSmoke(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := &http.Client{}
	defer c.CloseIdleConnections()
	for _, id := range []string{"123", "9000000551123", "9000000444111", "9000000444111", "9000000502"} {
		resp, err := c.Post(s.URL()+"/v26.0/me/messages?access_token=abc", "application/json", strings.NewReader(`{"recipient":{"id":"`+id+`"},"message":{"text":"hi"}}`))
		if err != nil {
			t.Log(err)
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		t.Log(resp.Status, resp.Header, string(b))
	}
	t.Logf("%+v", s.Summary())
	t.Logf("%+v", s.Calls())
	t.Log(s.Banner(), s.Help())
	resp, err := c.Get(s.ControlURL() + "/summary")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	t.Log(string(b))
}
