package shell

import "context"

// background runs a pipeline beside the shell.
func (s *shell) background(chain []andOr) {
	child := s.detach()
	j := &job{pid: child.pid, done: make(chan struct{})}
	s.jobs = append(s.jobs, j)
	s.lastJob, s.last = child.pid, 0
	child.files[0] = empty{}
	child.shellPID = s.shellPID
	sub := s.subshell(child)
	s.ex.children(func() {
		defer close(j.done)
		f := sub.andOr(chain)
		j.status = child.status(sub.finish(f))
		child.done()
	})
}

// job is a background pipeline.
type job struct {
	pid    int
	done   chan struct{}
	status int // once done
}

// await waits for a job, or for the end of ctx.
func (j *job) await(ctx context.Context) (int, bool) {
	select {
	case <-j.done:
		return j.status, true
	case <-ctx.Done():
		return 0, false
	}
}
