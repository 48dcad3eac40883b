package sendapi

import "testing"

// The bodies of the benchmarks: the text template of about 300 bytes in the three encodings, and a carousel.
const (
	benchText     = `Hi Alexandra, your order #48211 has shipped and should reach you on Tuesday between 9 and 12. Reply STOP if you would rather not get these updates here. - Team Example`
	benchNested   = `{"recipient":{"id":"1254477777772919"},"messaging_type":"UPDATE","message":{"text":"` + benchText + `"}}`
	benchFlat     = `{"recipient":"{\"id\":\"1254477777772919\"}","messaging_type":"UPDATE","message":"{\"text\":\"` + benchText + `\"}"}`
	benchForm     = `recipient=%7B%22id%22%3A%221254477777772919%22%7D&messaging_type=UPDATE&message=%7B%22text%22%3A%22Hi+Alexandra%2C+your+order+%2348211+has+shipped+and+should+reach+you+on+Tuesday+between+9+and+12.+Reply+STOP+if+you+would+rather+not+get+these+updates+here.+-+Team+Example%22%7D`
	benchCarousel = `{"recipient":{"id":"1254477777772919"},"messaging_type":"UPDATE","message":{"attachment":{"type":"template","payload":{"template_type":"generic","elements":[` +
		benchCard + `,` + benchCard + `,` + benchCard + `]}}}}`
	benchCard = `{"title":"Classic T-Shirt","subtitle":"100% soft cotton","image_url":"https://shop.example/white.png","default_action":{"type":"web_url","url":"https://shop.example/white"},` +
		`"buttons":[{"type":"web_url","url":"https://shop.example/white","title":"View"},{"type":"postback","title":"Later","payload":"remind:white"}]}`
)

func BenchmarkParse(b *testing.B) {
	for _, bench := range []struct{ name, contentType, body string }{
		{"nested", "application/json", benchNested},
		{"flat", "application/json", benchFlat},
		{"form", "application/x-www-form-urlencoded", benchForm},
		{"carousel", "application/json", benchCarousel},
	} {
		b.Run(bench.name, func(b *testing.B) {
			body := []byte(bench.body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(bench.contentType, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
