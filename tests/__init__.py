"""Tests of Tidemill; folders by what they need: unit, conformance, integration, acceptance, architecture."""
