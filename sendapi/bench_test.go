package sendapi

import (
	"io"
	"net/http"
	"testing"
	"time"
)

func BenchmarkDecodeAnswer(b *testing.B) {
	header := http.Header{
		"X-App-Usage":               {`{"call_count":28,"total_time":25,"total_cputime":25}`},
		"X-Business-Use-Case-Usage": {`{"1029384756":[{"type":"messenger","call_count":1,"total_cputime":1,"total_time":1,"estimated_time_to_regain_access":0}]}`},
	}
	refused := []byte(`{"error":{"message":"(#10) This message is sent outside of allowed window.","type":"OAuthException","code":10,"error_subcode":2018278,"fbtrace_id":"AxIIVeNpuf3y2jeXdufRcEX"}}`)
	benchmarks := []struct {
		name   string
		status int
		header http.Header
		body   []byte
	}{
		{"success", 200, nil, []byte(testSent)},
		{"success with usage", 200, header, []byte(testSent)},
		{"error", 400, nil, refused},
	}
	now := time.Now()
	for _, bb := range benchmarks {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decodeAnswer(bb.status, bb.header, bb.body, now); (err == nil) != (bb.status == 200) {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSend measures the client and a server on this machine together.
func BenchmarkSend(b *testing.B) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, testSent)
	}
	_, plain := testServer(b, handler)
	_, http2 := testServerTLS(b, true, handler)
	benchmarks := []struct {
		name   string
		client *Client
		cred   Credentials
	}{
		{"HTTP1", plain, Credentials{Token: testToken}},
		{"HTTP1 proof", plain, Credentials{Token: testToken, AppSecret: "secret"}},
		{"HTTP2", http2, Credentials{Token: testToken}},
	}
	for _, bb := range benchmarks {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := bb.client.Send(b.Context(), bb.cred, []byte(testBody)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
