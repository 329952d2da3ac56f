package manager

import "time"

// crewLinger is how long a goroutine that has made a sandbox waits for the next to make. A create needs a deep stack, and
// growing one took a twelfth of the processor time where many are made one after the other.
const crewLinger = 100 * time.Millisecond

// hand gives a create to a goroutine that waits for one, or to a new one. Called with mu held, while the Manager is open.
func (m *Manager) hand(job func()) {
	select {
	case m.crew <- job:
		return
	default:
	}
	m.work.Add(1)
	go func() {
		defer m.work.Done()
		rest := time.NewTimer(crewLinger)
		defer rest.Stop()
		for job != nil {
			job()
			job = nil // nothing of it is kept while waiting
			rest.Reset(crewLinger)
			select {
			case job = <-m.crew:
			case <-rest.C:
			case <-m.ctx.Done():
			}
		}
	}()
}
