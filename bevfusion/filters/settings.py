"""What can be set on the filter of a sequence, with defaults and ranges; the section `filter` of a configuration.

Nothing heavy is imported here, so that a misspelt key is answered at once. The parts of the filter take these values;
angles are in degrees, as in all that users write.
"""

from pydantic import BaseModel, ConfigDict, Field


class _Settings(BaseModel):
    """Frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MotionNoise(_Settings):
    """Standard deviations of odometry: independent sources, so their squares add.

    std_m^2   = floor_m^2 + (m_per_m distance)^2 + (m_per_s time)^2
    std_deg^2 = floor_deg^2 + (deg_per_m distance)^2 + (deg_per_deg |turn|)^2 + (deg_per_s time)^2
    """

    floor_m: float = Field(0.02, ge=0, le=10, description="of the position, whatever the step")
    m_per_m: float = Field(0.03, ge=0, le=1, description="of the position, a metre driven")
    m_per_s: float = Field(0.02, ge=0, le=10, description="of the position, a second")
    floor_deg: float = Field(0.1, ge=0, le=90, description="of the heading, whatever the step")
    deg_per_m: float = Field(0.1, ge=0, le=90, description="of the heading, a metre driven")
    deg_per_deg: float = Field(0.03, ge=0, le=1, description="of the heading, a degree turned")
    deg_per_s: float = Field(0.1, ge=0, le=90, description="of the heading, a second")


class TrackEvidence(_Settings):
    """How the odds of "this track follows the vehicle" against "it is elsewhere" are kept.

    log odds <- log odds + news * clip(gain, -`contradiction`, `support`),
    gain = `worth` best - `shortfall` (best - nats - usual) - `drop` best / level max(0, level - nats - `tolerance`)

    within +-logit(1 - `hazard`), with nats and best of `histogram.Agreement` and news = 1 - exp(-distance /
    `independent_m`). A track that is right agrees about as well as a sharp volume can, and about as well as a moment
    ago; streets that merely look alike agree a little all the time, but rather with another place in them.
    `track.AgreementMeans` keeps usual and level.
    """

    contradiction: float = Field(2.0, gt=0, le=20, description="nats that one frame may count against a track")
    support: float = Field(3.0, gt=0, le=20, description="nats that one frame may count for a track")
    worth: float = Field(0.25, ge=0, le=5, description="weight of the best agreement, if it is reached")
    shortfall: float = Field(2.0, ge=0, le=20, description="weight of what is missing to the best agreement")
    drop: float = Field(
        1.5, ge=0, le=20, description="weight of a sudden loss of agreement, where volumes still say something"
    )
    tolerance: float = Field(1.0, ge=0, le=20, description="nats of such a loss that do not count")
    hazard: float = Field(
        1e-3, gt=0, lt=0.5, description="chance a frame of being carried away: no track is surer than one less it"
    )
    update_m: float = Field(2.0, gt=0, le=100, description="distance after which a volume is news, for the belief")
    independent_m: float = Field(0.5, gt=0, le=100, description="distance after which a volume is news, for the odds")
    least_news: float = Field(0.05, ge=0, le=1, description="share of a volume that is news at a standstill")


class TrackLimits(_Settings):
    """When to speak, when to give up, when to begin again; probabilities are those of a track."""

    speak: float = Field(0.5, gt=0, lt=1, description="probability from which a pose is told")
    least_confidence: float = Field(0.005, ge=0, le=1, description="confidence of a pose that is told")
    lost: float = Field(0.05, gt=0, lt=1, description="probability below which the vehicle is lost")
    found: float = Field(0.95, gt=0, lt=1, description="probability from which it is found, or a start is believed")
    vague: float = Field(0.75, gt=0, le=1, description="relative spread of a belief that knows nothing ...")
    vague_frames: int = Field(10, ge=1, description="... for so many frames: lost")
    settled_frames: int = Field(
        10, ge=1, description="frames that a track must have been right for, to be the only one that is waited for"
    )
    reckoning_m: float = Field(4.0, ge=0, le=1000, description="how far such a track may be off dead reckoning ...")
    reckoning_share: float = Field(0.05, ge=0, le=1, description="... and so much of the distance driven")
    reckoning_deg: float = Field(4.0, ge=0, le=180, description="the same for its heading ...")
    reckoning_deg_per_m: float = Field(0.1, ge=0, le=180, description="... and so much a metre")
    regain_m: float = Field(4.0, ge=0, le=1000, description="distance for which it must then be found right")
    patience_frames: int = Field(
        15, ge=1, description="frames for candidates to prove themselves before they are sought anew ..."
    )
    retry_frames: int = Field(5, ge=1, description="... or, where none is left, since they were sought")
    hopeless: float = Field(1e-3, gt=0, lt=1, description="probability below which a candidate is dropped")
    keep: int = Field(24, ge=1, le=1000, description="candidates of a search over the map")
    margin_nats: float = Field(4.0, ge=0, description="by which the best candidate must lead")
    behind_nats: float = Field(8.0, ge=0, description="behind the best by which a candidate is dropped")
    candidate_m: float = Field(10.0, gt=0, le=100, description="half the window about a candidate")
    candidate_deg: float = Field(16.0, gt=0, le=180, description="the same for its heading")


class FilterConfig(_Settings):
    """How a vehicle is followed over frames."""

    noise: MotionNoise = MotionNoise()
    evidence: TrackEvidence = TrackEvidence()
    limits: TrackLimits = TrackLimits()

    def changes(self) -> dict[str, float]:
        """What differs from the defaults, by dotted key."""
        usual = FilterConfig().model_dump()
        return {
            f"{section}.{key}": value
            for section, values in self.model_dump().items()
            for key, value in values.items()
            if value != usual[section][key]
        }
