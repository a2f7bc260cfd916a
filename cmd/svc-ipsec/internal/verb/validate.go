package verb

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/svc-supervisor/svc-supervisor/pkg/spec"
)

// AnswerValidate serves the verb VALIDATE for the network configuration that it reads from in.
func (e *Executable) AnswerValidate(in io.Reader) *types.Error {
	err := e.Answering(spec.Validate, func(args *skel.CmdArgs) error {
		var err error
		if args.StdinData, err = io.ReadAll(in); err != nil {
			return err
		}
		return e.Validate(args)
	})(&skel.CmdArgs{ContainerID: os.Getenv("CNI_CONTAINERID"), IfName: os.Getenv("CNI_IFNAME")})
	if err == nil {
		return nil
	}
	var answer *types.Error
	if !errors.As(err, &answer) {
		answer = types.NewError(types.ErrInternal, err.Error(), "")
	}
	return answer
}

// Validate prints the faults of a configuration. It changes nothing, reads no files and resolves no names that the
// configuration contains, because the configuration may be meant for another host.
func (e *Executable) Validate(args *skel.CmdArgs) error {
	r, err := decodeRequest(args)
	if err != nil {
		return err
	}
	faults := []error{r.setConfiguration(r.document)}
	if faults[0] == nil {
		c := r.configuration
		c.Inside = r.internalAddresses()
		c.Assume()
		c.Resolve(nil)
		faults = c.Faults()
		if len(faults) == 0 {
			_, err := r.plan()
			faults = append(faults, err)
		}
	}
	answer := spec.Validation{CNIVersion: spec.CNIVersion, Faults: []spec.ValidationFault{}}
	for _, fault := range faults {
		if fault != nil {
			answer.Faults = append(answer.Faults, validationFault(fault))
		}
	}
	return json.NewEncoder(e.Out).Encode(answer)
}

func validationFault(err error) spec.ValidationFault {
	below := func(key string) string {
		return strings.TrimPrefix(strings.TrimPrefix(key, documentKey+"."), documentKey+": ")
	}
	if fault, ok := err.(*spec.Fault); ok {
		return spec.ValidationFault{Key: below(fault.Key), Wrong: spec.Quote(fault.Value), Allowed: fault.Allowed}
	}
	text, allowed, _ := strings.Cut(err.Error(), ": allowed: ")
	if key, wrong, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(key, documentKey+".") {
		return spec.ValidationFault{Key: below(key), Wrong: wrong, Allowed: allowed}
	}
	return spec.ValidationFault{Wrong: below(text), Allowed: allowed}
}
