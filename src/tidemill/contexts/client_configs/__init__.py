"""Client configurations: the settings that a service keeps for a client, one JSON object under each name."""

from pydantic import Field

from tidemill.api import CleanLabel, Json, Message, entity, gin, member, unique


class ClientConfig(Message):
    """The settings of a client of the service that sends the command."""

    name: CleanLabel = Field(description="The name, one per service.")
    config_data: Json = Field(description="The settings, a JSON object.")


client_configs = entity(
    ClientConfig,
    unique=(unique("service_name", "name"),),
    index=(gin("config_data"), member("config_data", "type")),
)

context = client_configs.context()
