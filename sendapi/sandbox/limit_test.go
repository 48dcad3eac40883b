package sandbox

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// inLastSecond counts in a slow and simple way what slidingSecond counts: the calls of the second that ends at the last one.
func inLastSecond(times []time.Duration) int {
	n, now := 0, times[len(times)-1]
	for i := len(times) - 1; i >= 0 && times[i] > now-time.Second; i-- {
		n++
	}
	return n
}

func busiest(times []time.Duration) int {
	most := 0
	for i := range times {
		most = max(most, inLastSecond(times[:i+1]))
	}
	return most
}

func TestWindowIsExact(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var w slidingSecond
		var times []time.Duration
		now := time.Duration(0)
		for range 400 {
			now += time.Duration(rnd.Int64N(int64(20 * time.Millisecond)))
			if rnd.IntN(100) == 0 {
				now += 900 * time.Millisecond
			}
			times = append(times, now)
			if got, want := w.add(now), inLastSecond(times); got != want {
				t.Fatalf("%d calls in the last second, want %d", got, want)
			}
		}
		if want := busiest(times); w.peak != want {
			t.Errorf("peak %d, want %d", w.peak, want)
		}
	}
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func TestRateOverASlidingSecond(t *testing.T) {
	l := newLimiter(Page{Rate: 3, MediaRate: 1, HighVolume: Off, Block: 2 * time.Second})
	steps := []struct {
		at      int // ms
		media   bool
		refused bool
		why     string
	}{
		{0, false, false, "first"},
		{800, false, false, "second"},
		{999, false, false, "third: at the ceiling"},
		{1000, false, false, "the first is a second ago"},
		{1100, false, true, "four since 800, though in two calendar seconds"},
		{1100, true, false, "media has a ceiling of its own"},
		{3099, false, true, "blocked until 3100, and calling on lengthens it"},
		{3101, false, true, "would be over without the last call"},
		{5101, false, false, "two seconds after the last call"},
		{5101, true, false, "media again"},
		{6100, true, true, "two in a second"},
		{8100, true, false, "over"},
	}
	for _, s := range steps {
		if v := l.take(ms(s.at), true, s.media); v.refused != s.refused {
			t.Errorf("at %d ms: refused %t, want %t: %s", s.at, v.refused, s.refused, s.why)
		}
	}
}

func TestHighVolume(t *testing.T) {
	newPage := func() *limiter {
		return newLimiter(Page{Rate: Off, MediaRate: Off, HighVolume: 40, HighVolumeFor: 3 * time.Second})
	}
	// run calls at a steady pace and returns when the first refusal came, -1 if none did.
	run := func(l *limiter, from, until, perSecond int, message bool) int {
		for i := 0; ; i++ {
			at := from + i*1000/perSecond
			if at >= until {
				return -1
			}
			if l.take(ms(at), message, false).highVolume {
				return at
			}
		}
	}
	l := newPage()
	if at := run(l, 0, 20_000, 40, true); at >= 0 {
		t.Errorf("refused at %d ms at the mark", at)
	}
	l = newPage()
	if at := run(l, 0, 20_000, 50, false); at >= 0 {
		t.Errorf("sender actions count as messages: refused at %d ms", at)
	}
	l = newPage()
	if at := run(l, 0, 2_900, 100, true); at >= 0 {
		t.Errorf("a short burst is refused at %d ms", at)
	}
	if at := run(l, 4_000, 6_900, 100, true); at >= 0 {
		t.Errorf("a lull does not end the volume: refused at %d ms", at)
	}
	l = newPage()
	at := run(l, 0, 20_000, 50, true)
	if at < 3_500 || at > 4_000 {
		t.Errorf("50 a second refused at %d ms, want 3 s after the mark was passed", at)
	}
	if v := l.take(ms(at+10), true, false); !v.highVolume {
		t.Error("goes on at the same volume")
	}
	if v := l.take(ms(at+700), true, false); v.highVolume {
		t.Error("still refused once the volume has decreased")
	}
}

// The record and the limiter must agree on the busiest second when calls come in at once.
func TestMaxInSecondUnderLoad(t *testing.T) {
	r := start(t, Config{AnyPage: Page{Rate: 100, HighVolume: Off, Block: time.Millisecond}})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 40 {
				if _, err := r.trySend("1", "x"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var times []time.Duration
	for _, c := range r.Calls() {
		times = append(times, c.At.Sub(r.start))
	}
	page := pageIDFor("token")
	if got, want := r.maxInSecond(page), busiest(times); got != want || len(times) != 640 {
		t.Errorf("busiest second %d, want %d of %d calls", got, want, len(times))
	}
	sum := r.Summary()
	if sum.MaxInSecond != sum.Pages[page].MaxInSecond || sum.Accepted+sum.Refused != 640 {
		t.Errorf("summary: %+v", sum)
	}
}

// setClock stops the clock of the sandbox at d.
func (r *rig) setClock(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = func() time.Duration { return d }
}

func TestThrottledAnswer(t *testing.T) {
	r := start(t, Config{Seed: 3, Pages: []Page{{ID: "77", Token: "token", Rate: 10, Block: 90 * time.Second}}})
	r.setClock(time.Second)
	for i := range 10 {
		rep := r.send("1", "x")
		if rep.status != http.StatusOK {
			t.Fatalf("call %d: %s", i+1, rep.code())
		}
		usage := rep.header.Get("X-Business-Use-Case-Usage")
		if want := i+1 >= 5; (usage != "") != want {
			t.Errorf("call %d: usage header %q", i+1, usage)
		}
	}
	codes, kinds := map[int]bool{}, map[bool]bool{}
	for range 30 {
		rep := r.send("1", "x")
		if rep.status != http.StatusBadRequest {
			t.Fatalf("over the ceiling: %s", rep.code())
		}
		codes[rep.body.Error.Code] = true
		usage := rep.header.Get("X-Business-Use-Case-Usage")
		if !strings.HasPrefix(usage, `{"77":[{"type":"`) || !strings.Contains(usage, `"estimated_time_to_regain_access":2}`) {
			t.Errorf("usage header %s", usage)
		}
		kinds[strings.Contains(usage, `"pages"`)] = true
	}
	if len(codes) != 3 || !codes[613] || !codes[80006] || !codes[32] || len(kinds) != 2 {
		t.Errorf("codes %v, types %v", codes, kinds)
	}
	r.setClock(92 * time.Second)
	if rep := r.send("1", "x"); rep.status != http.StatusOK {
		t.Errorf("after the block: %s", rep.code())
	}
}

func TestHighVolumeAnswer(t *testing.T) {
	r := start(t, Config{AnyPage: Page{HighVolume: 1, HighVolumeFor: time.Second / 2}})
	r.setClock(time.Second)
	r.send("1", "x")
	r.send("1", "x") // above the mark from here
	r.setClock(1600 * time.Millisecond)
	rep := r.send("1", "x")
	if rep.code() != "400 613/0" || !strings.Contains(rep.body.Error.Message, "volume") {
		t.Errorf("answer %s", rep.raw)
	}
	r.setClock(3 * time.Second)
	if rep := r.send("1", "x"); rep.status != http.StatusOK {
		t.Errorf("after the volume fell: %s", rep.code())
	}
}

func TestMediaHasItsOwnRate(t *testing.T) {
	r := start(t, Config{AnyPage: Page{MediaRate: 1}})
	r.setClock(time.Second)
	video := `{"recipient":{"id":"1"},"message":{"attachment":{"type":"video","payload":{"url":"https://example.com/v.mp4"}}}}`
	for i, want := range []int{200, 400} {
		rep, err := r.do(r.request("/me/messages?access_token=token", "", video))
		if err != nil || rep.status != want {
			t.Errorf("video %d: %s, %v", i+1, rep.code(), err)
		}
	}
	if rep := r.send("1", "x"); rep.status != http.StatusOK {
		t.Errorf("text beside the blocked video: %s", rep.code())
	}
}
