package verb

import (
	"github.com/containernetworking/cni/pkg/skel"

	"github.com/svc-supervisor/svc-supervisor/cmd/svc-ipsec/internal/cni"
)

// Validate prints the faults of a configuration. It changes nothing, reads no files and resolves no names that the
// configuration contains, because the configuration may be meant for another host.
func (e *Executable) Validate(args *skel.CmdArgs) error {
	r, err := cni.DecodeRequest(args)
	if err != nil {
		return err
	}
	faults := []error{r.SetConfiguration(r.Document)}
	if faults[0] == nil {
		c := r.Configuration
		c.InternalAddresses = r.InternalAddresses()
		c.Assume()
		c.Resolve(nil)
		faults = c.Faults()
		if len(faults) == 0 {
			_, err := r.Plan()
			faults = append(faults, err)
		}
	}
	return cni.EncodeValidation(e.Out, faults)
}
