# Builds the images of gateway and worker; with `worker-cuda` as its argument, the worker for NVIDIA GPUs. `docker buildx bake --file docker-bake.hcl --load` loads those of this machine into its engine, and
# `docker buildx bake --file docker-bake.hcl --push release` pushes those of all platforms to a registry. Without `--file`, bake would
# also read docker-compose.yml.
#
# Every variable can be set in the environment.

# What image names begin with, with the slash at its end, such as `registry.example/team/`.
variable "PREFIX" { default = "" }
variable "VERSION" { default = "0.1.0" }
variable "TAG" { default = VERSION }
# The commit, and the address of its repository.
variable "REVISION" { default = "unknown" }
variable "SOURCE" { default = "unknown" }

group "default" { targets = ["gateway", "worker"] }
group "release" { targets = ["gateway-release", "worker-release"] }

target "program" {
  name   = program
  matrix = { program = ["gateway", "worker"] }
  target = program
  tags   = ["${PREFIX}selvage-${program}:${TAG}"]
  args   = { VERSION = VERSION, REVISION = REVISION, SOURCE = SOURCE }
}

# The worker for NVIDIA GPUs; CUDA makes it gigabytes large, so it is built only by its name.
target "worker-cuda" {
  inherits  = ["worker"]
  target    = "worker-cuda"
  tags      = ["${PREFIX}selvage-worker-cuda:${TAG}"]
  platforms = ["linux/amd64"]
}

# A list of contents (SBOM) and the record of the build (provenance) are attached to the image in the registry. Of the two platforms,
# one is emulated and takes hours; the release workflow builds each on a machine of its kind (`--set '*.platform=…'`) and joins them.
target "released" {
  name      = "${program}-release"
  matrix    = { program = ["gateway", "worker"] }
  inherits  = [program]
  platforms = ["linux/amd64", "linux/arm64"]
  attest    = ["type=sbom", "type=provenance,mode=max"]
}
