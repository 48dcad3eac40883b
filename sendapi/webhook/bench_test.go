package webhook_test

import (
	"testing"

	"github.com/brazier-relay/brazier/sendapi/webhook"
)

func BenchmarkParse(b *testing.B) {
	var total int64
	all := bodies(b)
	all = all[:len(all)-1] // the last one is no JSON
	for _, body := range all {
		total += int64(len(body))
	}
	b.SetBytes(total / int64(len(all)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := webhook.Parse(all[i%len(all)], received); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	const signature = "sha256=98de1bf1391fbd760b068b8b8f7613b005de8a5e274d0ac06cd88770b83010c0"
	secrets, body := [][]byte{[]byte("app-secret-for-tests")}, bodies(b)[0]
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if !webhook.Verify(secrets, signature, body) {
			b.Fatal("the signature does not verify")
		}
	}
}
