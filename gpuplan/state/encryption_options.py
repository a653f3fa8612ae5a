"""`encryption:` under `state:`, as a spec writes it. Imported only where one does; a key itself is never in a spec."""

from pydantic import BaseModel, ConfigDict, Field


class EncryptionOptions(BaseModel):
    """That it is there means that the state has to be encrypted, whatever the key comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str = Field("", description="prints the key; run without a shell, in the folder of the project")
    old_commands: tuple[str, ...] = Field((), description="print keys that are still needed to read")
