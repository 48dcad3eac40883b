package worker

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/sendapi"
)

func jobFields(job *queue.Delivery) []zapcore.Field {
	return []zapcore.Field{zap.String("id", job.ID), zap.String("lane", string(job.Lane))}
}

// TrackingFields are what a log line about the end of a message, or about a message in doubt, says of where it comes from:
// by the first three people find it in Braze. Where log has debug lines, the server's numbers of this delivery follow: by
// them engineers find it in what NATS says.
func TrackingFields(log *zap.Logger, job *queue.Delivery) []zapcore.Field {
	fields := []zapcore.Field{
		zap.String("campaign", job.Tracking.Campaign),
		zap.String("dispatch", job.Tracking.Dispatch),
		zap.String("user", job.Tracking.User),
	}
	if log.Core().Enabled(zap.DebugLevel) {
		fields = append(fields, zap.Uint64("stream_seq", job.StreamSeq), zap.Uint64("consumer_seq", job.ConsumerSeq),
			zap.Uint64("deliveries", job.Deliveries))
	}
	return fields
}

func (p *page) logDelivered(job *queue.Delivery, attempt int, v Verdict) {
	fields := append(jobFields(job), zap.String("event", "delivered"), zap.Int("attempt", attempt), zap.String("mid", v.MessageID),
		zap.Int64("send_ms", v.Took.Milliseconds()), p.age(job), zap.String("recipient", job.Recipient))
	fields = append(fields, TrackingFields(p.log, job)...)
	level := zap.InfoLevel
	if v.Class != "" { // delivered although Facebook answered with an error, or named no message
		fields = append(fields, zap.String("class", string(v.Class)), zap.Int("code", v.Code), zap.Int("subcode", v.Subcode))
		if v.Code == 0 {
			level = zap.WarnLevel
			fields = append(fields, zap.String("reason", v.Text))
		}
	}
	p.log.Log(level, "message delivered", fields...)
}

// logRetry logs that a message is tried again, which is in doubt where that is why.
func (p *page) logRetry(job *queue.Delivery, attempt int, v Verdict, delay time.Duration) {
	if v.Class == sendapi.ClassInDoubt {
		p.logInDoubt(job, attempt, v, delay)
		return
	}
	if p.floods.Allow(LineKind{Event: "retry", Class: string(v.Class), Code: v.Code}) {
		p.log.Info("message will be tried again", append(retryFields(job, attempt, v, delay), zap.String("event", "retry"))...)
	}
}

func retryFields(job *queue.Delivery, attempt int, v Verdict, delay time.Duration) []zapcore.Field {
	return append(jobFields(job), zap.Int("attempt", attempt), zap.String("class", string(v.Class)), zap.Int("code", v.Code), zap.Int("subcode", v.Subcode),
		zap.String("fbtrace_id", v.TraceID), zap.Int64("delay_ms", delay.Milliseconds()), zap.String("reason", v.Text))
}

// The actions on a message in doubt, in the log.
const (
	actionResend = "resend"
	actionPark   = "park" // it is dead
)

// logInDoubt logs that an attempt may have sent the message and that it is sent again.
func (p *page) logInDoubt(job *queue.Delivery, attempt int, v Verdict, delay time.Duration) {
	if !p.floods.Allow(LineKind{Event: "in_doubt", Class: string(sendapi.ClassInDoubt)}) {
		return
	}
	fields := append(retryFields(job, attempt, v, delay), zap.String("event", "in_doubt"), zap.String("cause", v.Text), zap.String("action", actionResend))
	p.log.Warn("message may have been sent", append(fields, TrackingFields(p.log, job)...)...)
}

func (p *page) logDead(job *queue.Delivery, why queue.Reason) {
	if !p.floods.Allow(LineKind{Event: "dead", Class: why.Class, Code: why.Code}) {
		return
	}
	fields := append(jobFields(job), zap.String("event", "dead"), zap.Int("attempts", why.Attempts),
		zap.String("class", why.Class), zap.Int("code", why.Code), zap.Int("subcode", why.Subcode),
		zap.String("fbtrace_id", why.TraceID), p.age(job), zap.String("reason", why.Text))
	if why.Class == string(sendapi.ClassInDoubt) {
		fields = append(fields, zap.String("action", actionPark))
	}
	p.log.Warn("message is dead", append(fields, TrackingFields(p.log, job)...)...)
}

// unsettled logs that the outcome of a job is not stored.
func (p *page) unsettled(job *queue.Delivery, outcome string, err error) {
	if p.floods.Allow(LineKind{Event: "unsettled"}) {
		p.log.Error("job not settled, it will be delivered again", append(jobFields(job), zap.String("event", "unsettled"),
			zap.String("outcome", outcome), zap.Error(err))...)
	}
}

func (p *page) age(job *queue.Delivery) zapcore.Field {
	return zap.Int64("age_ms", p.w.cfg.Queue.Now().Sub(job.Accepted).Milliseconds())
}
